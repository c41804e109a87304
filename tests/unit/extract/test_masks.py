"""Segmentations, as classes' indices and as pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.masks import read_class, read_marked

LABELS = np.asarray([[0, 1, 1, 0], [255, 3, 3, 0], [255, 255, 0, 0]], np.uint8)
SIZE = (4, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mask.png"


def test_a_class_is_its_pixels(path: Path) -> None:
    Image.fromarray(LABELS).save(path)
    np.testing.assert_array_equal(read_class(path, size=SIZE, label=3), LABELS == 3)


@pytest.mark.parametrize("label", [None, 2])
def test_without_the_class_all_classes_count_and_the_seam_does_not(path: Path, label: int | None) -> None:
    Image.fromarray(LABELS).save(path)
    np.testing.assert_array_equal(read_class(path, size=SIZE, label=label), (LABELS == 1) | (LABELS == 3))


def test_a_palette_says_indices_and_not_colours(path: Path) -> None:
    """As PASCAL VOC's own files are."""
    image = Image.fromarray(LABELS, mode="L").convert("P")
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.putdata(LABELS.flatten().tolist())
    image.save(path)
    np.testing.assert_array_equal(read_class(path, size=SIZE, label=3), LABELS == 3)


def test_a_background_alone_is_no_object(path: Path) -> None:
    Image.new("L", SIZE).save(path)
    assert not read_class(path, size=SIZE, label=3).any()
    assert not read_marked(path, size=SIZE).any()


def test_colours_are_no_classes(path: Path) -> None:
    Image.new("RGB", SIZE, "red").save(path)
    with pytest.raises(DatasetError, match=r"mask\.png must hold the index of a class .* not colours \(mode RGB\)"):
        read_class(path, size=SIZE, label=1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_what_is_not_black_is_marked(path: Path, mode: str) -> None:
    marked = LABELS == 3
    if mode == "I;16":
        image = Image.fromarray(marked.astype(np.uint16) * np.uint16(256))
    else:
        image = Image.fromarray(marked.astype(np.uint8) * np.uint8(200)).convert("RGB").convert(mode)
    image.save(path)
    np.testing.assert_array_equal(read_marked(path, size=SIZE), marked)


def test_bad_masks_are_named(path: Path) -> None:
    for read in (lambda: read_class(path, size=SIZE, label=1), lambda: read_marked(path, size=SIZE)):
        path.unlink(missing_ok=True)
        with pytest.raises(DatasetError, match=r"mask\.png is missing: it says which pixels show the object"):
            read()
        path.write_bytes(b"none")
        with pytest.raises(DatasetError, match=r"mask\.png cannot be decoded"):
            read()
        Image.new("L", SIZE[::-1]).save(path)
        with pytest.raises(DatasetError, match=r"mask\.png is 3 x 4 pixels, but its image 4 x 3"):
            read()

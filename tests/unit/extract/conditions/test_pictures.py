"""Pictures that conditions are read from."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchkit.core.errors import DatasetError
from matchkit.extract.conditions.pictures import fitting, nearest, read_grey, read_indices, stored_size

LABELS = np.asarray([[0, 1, 7], [255, 3, 2]], np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "picture.png"


def test_indices_are_those_of_the_file_with_a_palette_and_without(path: Path) -> None:
    plain = Image.fromarray(LABELS)
    palette = plain.convert("P")
    palette.putdata(LABELS.ravel().tolist())
    for image in (plain, palette):
        image.save(path)
        np.testing.assert_array_equal(read_indices(path), LABELS)
    Image.fromarray(LABELS > 2).save(path)
    np.testing.assert_array_equal(read_indices(path), LABELS > 2)


@pytest.mark.parametrize("mode", ["RGB", "I;16", "LA"])
def test_colours_are_no_indices(path: Path, mode: str) -> None:
    Image.new(mode, (3, 2)).save(path)
    with pytest.raises(DatasetError, match=rf"picture\.png must hold the index of a class .*mode is {mode}"):
        read_indices(path)


def test_brightness(path: Path) -> None:
    Image.fromarray(LABELS).convert("RGB").save(path)
    np.testing.assert_array_equal(read_grey(path), LABELS)
    Image.new("I;16", (3, 2)).save(path)
    with pytest.raises(DatasetError, match=r"picture\.png has more than 8 bits"):
        read_grey(path)


def test_a_size_is_that_of_the_file_whatever_its_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 12)).save(tmp_path / "a.jpg", exif=exif)
    assert stored_size(tmp_path / "a.jpg") == (20, 12)


def test_a_missing_or_broken_file_is_named(path: Path) -> None:
    for read in (read_indices, read_grey, stored_size):
        path.unlink(missing_ok=True)
        with pytest.raises(DatasetError, match=r"picture\.png is missing"):
            read(path)
        path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")
        with pytest.raises(DatasetError, match=r"picture\.png cannot be decoded"):
            read(path)


def test_only_what_is_as_large_as_its_photograph_fits(path: Path) -> None:
    assert fitting(LABELS, photograph=(3, 2), path=path) is LABELS
    with pytest.raises(DatasetError, match=r"picture\.png is 3 x 2 pixels, but its photograph 2 x 3"):
        fitting(LABELS, photograph=(2, 3), path=path)


@pytest.mark.parametrize("size", [(3, 2), (6, 4), (9, 2), (2, 1), (7, 5), (1, 1)])
def test_the_nearest_pixel_is_where_the_centre_lies(size: tuple[int, int]) -> None:
    taken = nearest(np.stack([LABELS, LABELS.T[:2, [0, 1, 0]]]), size)
    assert taken.shape == (2, size[1], size[0])
    expected = np.asarray(Image.fromarray(LABELS).resize(size, Image.Resampling.NEAREST))
    np.testing.assert_array_equal(taken[0], expected)

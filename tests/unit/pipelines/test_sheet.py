"""The contact sheet of the embedded default."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchkit.core.records import ImageRecord
from matchkit.extract.datasets.toy.write import ToySizes, make_toy
from matchkit.pipelines.train_tiny.sheet import EACH, Carried, chosen, draw

POINTS = np.array([[10, 10], [50, 10], [10, 30]], np.float32)


def carried(path: Path, *, back: np.ndarray) -> Carried:
    Image.new("RGB", (64, 64), "green").save(path)
    record = ImageRecord("dog/a", path, (64, 64), "dog")
    return Carried(record, "a photo of a dog", path, POINTS, POINTS + 3, back)


def test_a_keypoint_comes_back_within_a_tenth_of_the_extent(tmp_path: Path) -> None:
    moved = np.array([[4, 0], [0, 4.5], [-2.8, 2.8]], np.float32)  # the extent is 40 pixels
    assert carried(tmp_path / "a.png", back=POINTS + moved).returned.tolist() == [True, False, True]


def test_every_pair_is_drawn(tmp_path: Path) -> None:
    told = [carried(tmp_path / f"{number}.png", back=POINTS) for number in range(EACH + 1)]
    draw(told, tmp_path / "sheet.jpg")
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        green = (np.asarray(sheet.convert("RGB")) == (0, 128, 0)).all(2)
        assert sheet.size[1] > 2 * 64
    assert green[: len(green) // 2].any()
    assert green[len(green) // 2 :].any()


@pytest.mark.slow
def test_the_first_pictures_of_each_category_are_taken(tmp_path: Path) -> None:
    pytest.importorskip("embreex")
    sizes = ToySizes(train_images=5, val_images=10, test_images=5, train_pairs=0, val_pairs=0, test_pairs=0)
    make_toy(tmp_path / "toy", sizes=sizes, size=32, workers=1)
    found = chosen(tmp_path / "toy")
    assert len(found) == 10
    record, caption = found["bird/bird_val_00001"]
    annotation = tmp_path / "toy" / "ImageAnnotation" / "bird" / "bird_val_00001.json"
    assert (caption, record.category) == (json.loads(annotation.read_text())["caption"], "bird")

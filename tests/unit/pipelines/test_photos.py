"""One's own photographs and points in them, of every kind that a camera or a program writes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.pipelines.photos import points_in, read_photo, read_points

Draw = Callable[[tuple[int, int], int], Image.Image]
TURNED = 6
"""The EXIF orientation of a camera held upright: a viewer turns the picture clockwise."""


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("size", [(1, 1), (40, 30)])
def test_every_mode_of_eight_bits(mode: str, size: tuple[int, int], tmp_path: Path, draw: Draw) -> None:
    image = draw(size, 0).convert("L").convert(mode) if mode == "LA" else draw(size, 0).convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    image.save(path)
    of_file, of_image = read_photo(path), read_photo(image)
    assert (of_file.image.mode, of_file.size) == ("RGB", size)
    np.testing.assert_array_equal(np.asarray(of_file.image), np.asarray(of_image.image))


def test_an_image_is_upright_as_its_file_is(tmp_path: Path, draw: Draw) -> None:
    image, path = draw((40, 30), 1), tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = TURNED
    image.save(path, exif=exif, quality=95)
    of_file = read_photo(path)
    assert of_file.size == (30, 40)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(np.asarray(read_photo(opened).image), np.asarray(of_file.image))
    expected = np.asarray(image.transpose(Image.Transpose.ROTATE_270), np.float32)
    assert np.abs(np.asarray(of_file.image, np.float32) - expected).mean() < 5


def test_names_and_ids(tmp_path: Path, draw: Draw) -> None:
    draw((8, 8), 0).save(tmp_path / "tom.png")
    photo = read_photo(str(tmp_path / "tom.png"), category="cat")
    assert (photo.id, photo.name) == ("cat/tom", "tom.png")
    assert (read_photo(draw((8, 8), 0)).id, read_photo(draw((8, 8), 0)).name) == ("photo", "photo")


def test_files_that_are_no_photographs(tmp_path: Path, draw: Draw) -> None:
    with pytest.raises(DatasetError, match=r"a\.jpg is missing\. Give the file"):
        read_photo(tmp_path / "a.jpg")
    with pytest.raises(DatasetError, match="is a folder"):
        read_photo(tmp_path)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(DatasetError, match=r"text\.jpg is not a readable image"):
        read_photo(tmp_path / "text.jpg")
    draw((90, 90), 0).resize((600, 600)).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:4000])
    with pytest.raises(DatasetError, match=r"half\.jpg cannot be decoded"):
        read_photo(tmp_path / "half.jpg")
    with Image.open(tmp_path / "half.jpg") as opened, pytest.raises(DatasetError, match=r"half\.jpg cannot be decoded"):
        read_photo(opened)


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    deep = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    deep.save(tmp_path / "deep.png")
    for given in (tmp_path / "deep.png", deep):
        with pytest.raises(DatasetError, match=r"more than 8 bits a channel.*convert it first"):
            read_photo(given)


def test_points_lie_in_the_photograph(draw: Draw) -> None:
    photo = read_photo(draw((40, 30), 0))
    told = points_in(photo, [(0, 0), (39.4, 29.4), (-0.5, 29.5)])
    assert told.dtype == np.float32
    np.testing.assert_allclose(told, [(0, 0), (39.4, 29.4), (-0.5, 29.5)])
    assert points_in(photo, []).shape == (0, 2)
    for point in ((40, 3), (3, 30), (-1, 3), (np.nan, 3), (3, np.inf)):
        with pytest.raises(ConfigError, match=r"point 2, .*, lies outside photo, which is 40 x 30 .* x is 0\.\.39"):
            points_in(photo, [(1, 1), point])


@pytest.mark.parametrize("points", [(3, 4), [(1, 2, 3)], [(1, 2), (3,)], "here", [("a", "b")]])
def test_what_is_no_points(points: Sequence[Any], draw: Draw) -> None:
    with pytest.raises(ConfigError, match=r"points are \(x, y\) pairs of pixels"):
        points_in(read_photo(draw((40, 30), 0)), points)


def test_points_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("﻿name, x, y\nleft ear, 120, 80.5\nnose,7,8\n", encoding="utf-8")
    assert read_points(path) == [(120.0, 80.5), (7.0, 8.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line must name the columns x and y"),
        ("120,80\n", "its first line must name the columns x and y"),
        ("x,y\n", "has no row of points"),
        ("x,y\n1,2\n3,left\n", r"points\.csv, line 3: x and y must be numbers, not '3' and 'left'"),
        ("x,y\n1\n", "line 2: x and y must be numbers, not '1' and 'None'"),
    ],
)
def test_files_without_points(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_points(path)


def test_no_file_of_points(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no points at .*none\.csv"):
        read_points(tmp_path / "none.csv")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DatasetError, match=r"picture\.csv is no CSV file"):
        read_points(tmp_path / "picture.csv")

"""Decoding and placing photographs."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from matchkit.core.errors import DatasetError
from matchkit.core.records import ImageRecord
from matchkit.extract.images import load_image, to_input

Draw = Callable[[tuple[int, int], int], Image.Image]
SIZE = (20, 12)


def record(path: Path, size: tuple[int, int] = SIZE) -> ImageRecord:
    return ImageRecord("cat/a", path, size)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK", "LA"])
def test_every_eight_bit_mode_becomes_rgb(mode: str, tmp_path: Path, draw: Draw) -> None:
    image = draw(SIZE, 0).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    loaded = load_image(record(path))
    assert loaded.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(loaded), np.asarray(image.convert("RGB")))


def test_grey_is_the_same_in_all_channels(tmp_path: Path) -> None:
    Image.new("L", SIZE, 77).save(tmp_path / "a.png")
    assert load_image(record(tmp_path / "a.png")).getpixel((3, 3)) == (77, 77, 77)


def test_an_exif_orientation_is_not_applied(tmp_path: Path, draw: Draw) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    draw(SIZE, 0).save(tmp_path / "a.jpg", exif=exif)
    assert load_image(record(tmp_path / "a.jpg")).size == SIZE


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"deep.{ending}"
    Image.fromarray(np.full((12, 20), 40000, np.uint16)).save(path)
    with pytest.raises(DatasetError, match=rf"deep\.{ending} has more than 8 bits a channel \(mode I;16\)"):
        load_image(record(path))


def test_sixteen_bits_a_colour_are_refused(tmp_path: Path) -> None:
    """Pillow cannot write such a file, and reads one as if it had eight bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x12\x34" * 3 * SIZE[0] for _ in range(SIZE[1]))
    header = struct.pack(">IIBBBBB", *SIZE, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(DatasetError, match=r"deep\.png has more than 8 bits a channel"):
        load_image(record(tmp_path / "deep.png"))


def test_an_image_too_large_to_be_true_is_refused(tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(SIZE, 0).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DatasetError, match=r"huge\.png cannot be decoded: "):
        load_image(record(tmp_path / "huge.png"))


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_a_truncated_jpeg_is_named(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)).save(path, quality=95)
    path.write_bytes(path.read_bytes()[: keep or -40])
    with pytest.raises(DatasetError, match=r"cut\.jpg cannot be decoded: "):
        load_image(record(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.jpg is missing: the file of image 'cat/a'"):
        load_image(record(tmp_path / "gone.jpg"))


def test_another_size_than_annotated(tmp_path: Path, draw: Draw) -> None:
    draw(SIZE, 0).save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"a\.png is 20 x 12 pixels, but its annotation says 12 x 20"):
        load_image(record(tmp_path / "a.png", (12, 20)))


def test_an_input_of_the_same_size_is_the_image(draw: Draw) -> None:
    image = draw(SIZE, 0)
    pixels, placement = to_input(image, SIZE, fit="stretch")
    assert pixels.shape == (3, 12, 20)
    np.testing.assert_array_equal((pixels * 255).round().numpy(), np.asarray(image).transpose(2, 0, 1))
    assert (placement.scale, placement.offset) == ((1, 1), (0, 0))


def test_stretch_is_pillows_bilinear(draw: Draw) -> None:
    image = draw((40, 20), 1)
    pixels, placement = to_input(image, (16, 16), fit="stretch")
    resized = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(pixels.numpy(), resized.transpose(2, 0, 1) / 255, rtol=1e-6)
    assert placement.scale == (0.4, 0.8)


@pytest.mark.parametrize(
    ("size", "bars"), [((40, 20), (slice(4, 12), slice(0, 16))), ((10, 20), (slice(0, 16), slice(4, 12)))]
)
def test_letterbox_keeps_the_ratio_between_grey_bars(size: tuple[int, int], bars: tuple[slice, slice]) -> None:
    pixels, placement = to_input(Image.new("RGB", size, (255, 0, 51)), (16, 16), fit="letterbox")
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[bars] = True
    colour = torch.tensor([1.0, 0.0, 0.2])
    torch.testing.assert_close(pixels[:, inside], colour[:, None].expand(-1, int(inside.sum())))
    assert (pixels[:, ~inside] == 0.5).all()
    assert placement.offset == (bars[1].start, bars[0].start)


def test_letterbox_of_the_inputs_own_ratio_has_no_bars(draw: Draw) -> None:
    pixels, placement = to_input(draw((32, 16), 2), (16, 8), fit="letterbox")
    assert placement.offset == (0, 0)
    torch.testing.assert_close(pixels, to_input(draw((32, 16), 2), (16, 8), fit="stretch")[0])

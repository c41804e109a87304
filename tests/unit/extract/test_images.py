"""Decoding and placing photographs."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.geometry import Fit, image_to_input
from matchkit.core.poses import Pose, posed
from matchkit.core.records import Canvas, ImageRecord, Resample
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


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped_and_what_lies_under_it_shows(mode: str, tmp_path: Path, draw: Draw) -> None:
    image = draw(SIZE, 0).convert(mode.removesuffix("A"))
    image.putalpha(0)
    image.save(tmp_path / "a.png")
    opaque = image.convert(mode.removesuffix("A")).convert("RGB")
    np.testing.assert_array_equal(np.asarray(load_image(record(tmp_path / "a.png"))), np.asarray(opaque))


def test_a_palette_of_several_transparencies_is_read_without_a_warning(tmp_path: Path, draw: Draw) -> None:
    image = draw(SIZE, 0).quantize(8)
    image.save(tmp_path / "a.png", transparency=bytes(range(0, 240, 30)))
    with Image.open(tmp_path / "a.png") as written:
        assert written.mode == "P"
        assert isinstance(written.info["transparency"], bytes)
    loaded = load_image(record(tmp_path / "a.png"))
    np.testing.assert_array_equal(np.asarray(loaded), np.asarray(image.convert("RGB")))


def test_a_jpeg_for_print_is_read_as_pillow_reads_it(tmp_path: Path, draw: Draw) -> None:
    draw(SIZE, 0).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    loaded = np.asarray(load_image(record(tmp_path / "a.jpg")), np.int16)
    assert np.abs(loaded - np.asarray(draw(SIZE, 0), np.int16)).max() < 40


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif", "mpo"])
def test_of_several_frames_the_first_is_taken(ending: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / f"a.{ending}") as written:
        assert getattr(written, "n_frames", 1) == 3
    red, green, blue = np.asarray(load_image(record(tmp_path / f"a.{ending}")))[5, 5]
    assert red > 250
    assert max(green, blue) < 5


POSED: dict[Pose, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "none": lambda plain: plain,
    "hflip": lambda plain: plain[:, ::-1],
    "rot90": lambda plain: plain[:, ::-1].transpose(1, 0, 2),  # what stood at the right stands above
    "rot270": lambda plain: plain[::-1].transpose(1, 0, 2),
}
"""What each pose makes of an image's rows."""


@pytest.mark.parametrize("pose", POSED)
def test_a_copy_is_the_image_in_its_pose(pose: Pose, tmp_path: Path, draw: Draw) -> None:
    draw(SIZE, 0).save(tmp_path / "a.png")
    plain = np.asarray(load_image(record(tmp_path / "a.png")))
    copied = posed(record(tmp_path / "a.png"), pose)
    copy = load_image(copied)
    assert copy.size == copied.size
    np.testing.assert_array_equal(np.asarray(copy), POSED[pose](plain))


@pytest.mark.parametrize("pose", POSED)
def test_a_copy_of_another_size_is_refused_with_the_sizes_of_the_file(pose: Pose, tmp_path: Path, draw: Draw) -> None:
    draw(SIZE, 0).save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"a\.png is 20 x 12 pixels, but its annotation says 21 x 12$"):
        load_image(posed(record(tmp_path / "a.png", (21, 12)), pose))


@pytest.mark.parametrize("pose", POSED)
def test_a_copy_of_a_photograph_on_its_side_names_the_setting(pose: Pose, tmp_path: Path, draw: Draw) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(SIZE, 0).save(tmp_path / "a.jpg", exif=exif)
    copy = posed(record(tmp_path / "a.jpg", SIZE[::-1]), pose)
    with pytest.raises(
        DatasetError,
        match=r"a\.jpg is 20 x 12 pixels as it lies in its file, but its annotation says 12 x 20\. "
        "Apply its EXIF orientation: --set oriented=true",
    ):
        load_image(copy)
    assert load_image(copy, oriented=True).size == copy.size


TURNED: dict[int, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    1: lambda shown: shown,
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.transpose(1, 0, 2),
    6: lambda shown: shown[::-1].transpose(1, 0, 2),
    7: lambda shown: shown[::-1, ::-1].transpose(1, 0, 2),
    8: lambda shown: shown[:, ::-1].transpose(1, 0, 2),
}
"""What a viewer makes of the stored rows for each EXIF orientation."""


@pytest.mark.parametrize("orientation", TURNED)
def test_an_orientation_is_applied_on_demand(orientation: int, tmp_path: Path, draw: Draw) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = draw(SIZE, 0)
    image.save(tmp_path / "a.png", exif=exif)
    expected = TURNED[orientation](np.asarray(image))
    size = (expected.shape[1], expected.shape[0])
    np.testing.assert_array_equal(np.asarray(load_image(record(tmp_path / "a.png", size), oriented=True)), expected)
    for pose, how in POSED.items():
        copy = load_image(posed(record(tmp_path / "a.png", size), pose), oriented=True)
        np.testing.assert_array_equal(np.asarray(copy), how(expected))


def test_an_oriented_image_has_the_size_of_the_turned_one(tmp_path: Path, draw: Draw) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(SIZE, 0).save(tmp_path / "a.jpg", exif=exif)
    assert load_image(record(tmp_path / "a.jpg", SIZE[::-1]), oriented=True).size == SIZE[::-1]
    with pytest.raises(
        DatasetError, match=r"a\.jpg is 12 x 20 pixels once its EXIF orientation is applied, but its annot"
    ):
        load_image(record(tmp_path / "a.jpg"), oriented=True)


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


def ppm(path: Path, largest: int) -> Path:
    rows = bytes(SIZE[0] * SIZE[1] * 3 * (2 if largest > 255 else 1))
    path.write_bytes(b"P6 %d %d %d\n" % (*SIZE, largest) + rows)
    return path


@pytest.mark.parametrize("largest", [256, 65535])
def test_a_ppm_of_more_than_eight_bits_is_refused(largest: int, tmp_path: Path) -> None:
    """Pillow scales it down and says RGB."""
    with pytest.raises(DatasetError, match=r"a\.ppm has more than 8 bits a channel \(mode RGB\)"):
        load_image(record(ppm(tmp_path / "a.ppm", largest)))


@pytest.mark.parametrize("largest", [100, 255])
def test_a_ppm_of_eight_bits_is_read(largest: int, tmp_path: Path) -> None:
    assert load_image(record(ppm(tmp_path / "a.ppm", largest))).size == SIZE


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


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.ppm", b"P6 20x 12 255\n" + bytes(720)),  # a ValueError of Pillow's
        ("a.jpg", b""),
        ("a.png", b"no image at all"),
    ],
)
def test_what_is_no_image_is_named(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=rf"{name} cannot be decoded: "):
        load_image(record(tmp_path / name))


@pytest.mark.filterwarnings("ignore")  # Pillow warns of much that is wrong in a file
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "tif", "bmp", "ppm"])
def test_a_broken_file_is_refused_or_read_never_anything_else(ending: str, tmp_path: Path, draw: Draw) -> None:
    path = tmp_path / f"a.{ending}"
    draw(SIZE, 0).save(path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        data = bytearray(whole[: random.integers(len(whole) // 2, len(whole) + 1)])
        for place in random.integers(0, len(data), 4):
            data[place] = random.integers(256)
        path.write_bytes(data)
        try:
            assert load_image(record(path)).size == SIZE
        except DatasetError:
            refused += 1
    assert refused > 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.jpg is missing: the file of image 'cat/a'"):
        load_image(record(tmp_path / "gone.jpg"))


def test_another_size_than_annotated(tmp_path: Path, draw: Draw) -> None:
    draw(SIZE, 0).save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"a\.png is 20 x 12 pixels, but its annotation says 12 x 20"):
        load_image(record(tmp_path / "a.png", (12, 20)))


def test_an_input_of_the_same_size_is_the_image(draw: Draw) -> None:
    image = draw(SIZE, 0)
    pixels, placement = to_input(image, Canvas(SIZE, "stretch"))
    assert pixels.shape == (3, 12, 20)
    np.testing.assert_array_equal((pixels * 255).round().numpy(), np.asarray(image).transpose(2, 0, 1))
    assert (placement.scale, placement.offset) == ((1, 1), (0, 0))


def test_stretch_is_pillows_bilinear(draw: Draw) -> None:
    image = draw((40, 20), 1)
    pixels, placement = to_input(image, Canvas((16, 16), "stretch"))
    resized = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(pixels.numpy(), resized.transpose(2, 0, 1) / 255, rtol=1e-6)
    assert placement.scale == (0.4, 0.8)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "lanczos"])
def test_the_filter_is_pillows(resample: Resample, fit: Fit, draw: Draw) -> None:
    image = draw((40, 20), 1)
    pixels, _ = to_input(image, Canvas((16, 16), fit, resample))
    size, top = ((16, 16), 0) if fit == "stretch" else ((16, 8), 4)
    resized = np.asarray(image.resize(size, getattr(Image.Resampling, resample.upper())))
    np.testing.assert_allclose(pixels[:, top : top + size[1]], resized.transpose(2, 0, 1) / 255, rtol=1e-6)


@pytest.mark.parametrize("bars", [0.0, 0.5, 1.0])
def test_the_bars_have_the_brightness_that_is_asked_for(bars: float) -> None:
    pixels, _ = to_input(Image.new("RGB", (40, 20), "red"), Canvas((16, 16), "letterbox", bars=bars))
    assert (pixels[:, :4] == bars).all()
    assert (pixels[:, 12:] == bars).all()


@pytest.mark.parametrize(("size", "left"), [((375, 500), 105), ((333, 500), 140)])
def test_the_canvas_of_geoaware_sc(size: tuple[int, int], left: int, draw: Draw) -> None:
    """Source: the published canvas of 840 px puts 333 x 500 pixels into its columns 140 to 698, between black bars."""
    pixels, placement = to_input(draw(size, 3), Canvas((840, 840), "letterbox", "lanczos", bars=0.0))
    assert placement.offset == (left, 0)
    inside = pixels.amax((0, 1)) > 0
    assert inside.nonzero().flatten().tolist() == list(range(left, left + round(840 * size[0] / 500)))


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_even_a_line_of_pixels_fills_an_input(size: tuple[int, int], fit: Fit) -> None:
    pixels, _ = to_input(Image.new("RGB", size, "white"), Canvas((16, 16), fit, bars=0.0))
    assert pixels.shape == (3, 16, 16)
    assert pixels.max() == 1


@pytest.mark.parametrize("bars", [-0.1, 1.1, float("nan")])
def test_bars_of_no_brightness_are_refused(bars: float) -> None:
    with pytest.raises(ConfigError, match=r"bars must lie in 0\.\.1"):
        Canvas((16, 16), "letterbox", bars=bars)


@pytest.mark.parametrize(
    ("size", "bars"), [((40, 20), (slice(4, 12), slice(0, 16))), ((10, 20), (slice(0, 16), slice(4, 12)))]
)
def test_letterbox_keeps_the_ratio_between_grey_bars(size: tuple[int, int], bars: tuple[slice, slice]) -> None:
    pixels, placement = to_input(Image.new("RGB", size, (255, 0, 51)), Canvas((16, 16), "letterbox"))
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[bars] = True
    colour = torch.tensor([1.0, 0.0, 0.2])
    torch.testing.assert_close(pixels[:, inside], colour[:, None].expand(-1, int(inside.sum())))
    assert (pixels[:, ~inside] == 0.5).all()
    assert placement.offset == (bars[1].start, bars[0].start)


def test_letterbox_of_the_inputs_own_ratio_has_no_bars(draw: Draw) -> None:
    pixels, placement = to_input(draw((32, 16), 2), Canvas((16, 8), "letterbox"))
    assert placement.offset == (0, 0)
    torch.testing.assert_close(pixels, to_input(draw((32, 16), 2), Canvas((16, 8), "stretch"))[0])


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (256, 256), (224, 1000), (60, 41), (1, 300)])
def test_the_middle_of_an_image_is_that_of_the_published_processor(size: tuple[int, int], draw: Draw) -> None:
    """`specs/sd4match.md` §2.1: the shorter side to 256 pixels, bicubically, then the centre 224."""
    image = draw(size, 4)
    # where there are two of them, the one without a suffix does not work by Pillow, which the published one did
    kind = getattr(transformers, "BitImageProcessorPil", transformers.BitImageProcessor)
    processor = kind(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, do_normalize=False, resample=3
    )
    expected = processor(image, return_tensors="pt").pixel_values[0]
    pixels, placement = to_input(image, Canvas((224, 224), "crop", "bicubic"))
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-6)
    middle = np.asarray([[(size[0] - 1) / 2, (size[1] - 1) / 2]], np.float32)
    np.testing.assert_allclose(image_to_input(middle, placement), [[111.5, 111.5]], atol=0.51)


def test_a_smaller_crop_is_cut_in_proportion(draw: Draw) -> None:
    pixels, placement = to_input(draw((292, 146), 4), Canvas((128, 128), "crop", "bicubic"))
    assert placement.scale == (1, 1)
    assert placement.offset == (-82, -9)
    whole, _ = to_input(draw((292, 146), 4), Canvas((292, 146), "stretch"))
    assert torch.equal(pixels, whole[:, 9:137, 82:210])

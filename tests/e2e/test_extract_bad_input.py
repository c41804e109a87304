"""Extractions that go wrong: one line that says what, where and the next command, and nothing that was done is lost."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.records import Canvas, ImageRecord
from matchkit.extract import run as engine

Draw = Callable[[tuple[int, int], int], Image.Image]
Photographs = Callable[[int], Path]
FOLDER = ("--dataset", "folder", "--root", "photos")
PIXELS = ("extract", *FOLDER, "--backbone", "pixels", "--device", "cpu")
SMALL = (*PIXELS, "--set", "input_size=32")
STORE = Path("features/folder/pixels.zarr")


@pytest.fixture
def photographs(tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> Photographs:
    """Draws so many photographs of 32 x 32 pixels into `photos/` of a project folder, the current one."""
    monkeypatch.chdir(tmp_path)

    def drawn(images: int) -> Path:
        (tmp_path / "photos").mkdir()
        for number in range(images):
            draw((32, 32), number).save(tmp_path / "photos" / f"{number:03d}.png")
        return tmp_path / "photos"

    return drawn


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def refused(*arguments: str) -> str:
    """The one line with which the command line refuses."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.stderr.splitlines()[-1] == line
    assert not result.stdout
    return line


def cut(photo: Path) -> bytes:
    """Takes away the second half of a file, and returns all that it was."""
    whole = photo.read_bytes()
    photo.write_bytes(whole[: len(whole) // 2])
    return whole


def test_one_of_three_hundred_cannot_be_decoded(photographs: Photographs, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = photographs(300) / "150.png"
    whole, tried, plain = cut(photo), list[str](), engine.inputs

    def noting(record: ImageRecord, canvases: tuple[Canvas, ...]) -> engine.Inputs:
        tried.append(record.id)
        return plain(record, canvases)

    monkeypatch.setattr(engine, "inputs", noting)
    line = refused(*SMALL)
    assert "1 of 300 images cannot be extracted: " in line
    assert "photos/150.png cannot be decoded" in line
    assert len(tried) == 300
    with FeatureStore.open(STORE) as store:
        assert len(store.ids) == 299
        assert "150" not in store.ids
    tried.clear()
    assert "1 of 300 images cannot be extracted: " in refused(*SMALL)
    assert tried == ["150"]
    photo.write_bytes(whole)
    assert "1 images extracted, 299 were there" in run(*SMALL).stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if refusal := mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)):
        pytest.skip(f"no small disk can be made here: {refusal}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments: str) -> str:
    """Mounts, and returns why it cannot."""
    if shutil.which("mount") is None:
        return "there is no mount"
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    return done.stderr.strip() or f"mount exits with {done.returncode}" if done.returncode else ""


@pytest.mark.parametrize("size", [("input_size=256", "cell=2"), ("input_size=1024", "cell=2")], ids=["shared", "apart"])
def test_a_full_disk_loses_nothing(small_disk: Path, photographs: Photographs, size: tuple[str, str]) -> None:
    photographs(40 if size[0] == "input_size=256" else 4)
    images = len(list(Path("photos").iterdir()))
    command = (*PIXELS, "--set", size[0], "--set", size[1], "--out", str(small_disk / "F.zarr"))
    line = refused(*command)
    assert f"{images} images will take" in line
    assert "begin all the same with --force" in line
    assert not (small_disk / "F.zarr").exists()
    line = refused(*command, "--force")
    assert "the disk is full" in line
    assert str(small_disk / "F.zarr") in line
    with FeatureStore.open(small_disk / "F.zarr") as store:
        kept = store.ids
        assert 0 < len(kept) < images
        before = {image_id: store.read(image_id) for image_id in kept}
    assert mount("-o", "remount,size=24m", str(small_disk)) == ""
    assert f"{images - len(kept)} images extracted, {len(kept)} were there" in run(*command).stdout
    assert f"{images} images intact" in run("cache", "verify", str(small_disk / "F.zarr")).stdout
    with FeatureStore.open(small_disk / "F.zarr") as store:
        assert all(torch.equal(store.read(image_id)["rgb"], maps["rgb"]) for image_id, maps in before.items())


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached(photographs: Photographs) -> None:
    photographs(1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    told = {"PYTHONSAFEPATH": "1", "HF_ENDPOINT": endpoint, "HF_HOME": str(Path("hub").absolute())}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | told
    command = [sys.executable, "-m", "matchkit", "extract", *FOLDER, "--device", "cpu", "--weights", "some/name"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: weights 'some/name' are neither a folder here nor to be had from the hub (")
    assert line.endswith("Give a folder with --weights DIR")


def test_weights_that_predict_something_else(photographs: Photographs, sd_folder: Path) -> None:
    photographs(1)
    shutil.copytree(sd_folder, "weights")
    path = Path("weights/scheduler/scheduler_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "sample"}))
    line = refused("extract", *FOLDER, "--weights", "weights")
    assert "weights/scheduler/scheduler_config.json: scaled_linear betas and a prediction of sample" in line
    assert not Path("features").exists()


@pytest.mark.parametrize(
    ("backbone", "settings", "message"),
    [
        ("sd-noise", ("timesteps=[1000]",), "timesteps must lie in 0..999, not 1000"),
        ("sd-inversion", ("steps=10", "keys=[9,10]"), "keys must lie in 0..9 for steps 10, not 10"),
    ],
)
def test_what_lies_outside_the_schedule(
    photographs: Photographs, sd_folder: Path, backbone: str, settings: tuple[str, ...], message: str
) -> None:
    photographs(1)
    told = [option for setting in settings for option in ("--set", setting)]
    assert message in refused("extract", *FOLDER, "--backbone", backbone, "--weights", str(sd_folder), *told)
    assert not Path("features").exists()


def test_mirrored_copies_are_stored(photographs: Photographs) -> None:
    photographs(3)
    assert "3 images extracted" in run(*SMALL).stdout
    assert "3 images extracted, 3 were there" in run(*SMALL, "--flip").stdout
    assert "0 images extracted, 6 were there" in run(*SMALL, "--flip").stdout
    with FeatureStore.open(STORE) as store:
        assert sorted(store.ids) == sorted(f"00{number}{copy}" for number in range(3) for copy in ("", "@flip"))
        for number in range(3):
            plain, copy = (store.read(f"00{number}{ending}")["rgb"] for ending in ("", "@flip"))
            torch.testing.assert_close(copy, plain.flip(-1))
            assert not torch.equal(copy, plain)


def test_a_photograph_called_like_a_mirrored_copy(photographs: Photographs) -> None:
    photographs(2)
    Path("photos/001.png").rename("photos/000@flip.png")
    line = refused(*SMALL)
    assert "photos/000@flip.png: the ending @flip is kept for posed copies; rename the file" in line
    assert not STORE.exists()


def test_a_photograph_that_lies_on_its_side(photographs: Photographs, draw: Draw) -> None:
    folder, exif = photographs(2), Image.Exif()
    exif[0x0112] = 6
    draw((48, 32), 7).save(folder / "phone.png", exif=exif)
    draw((48, 32), 7).transpose(Image.Transpose.ROTATE_270).save(folder / "upright.png")
    line = refused(*SMALL)
    assert "1 of 4 images cannot be extracted: photos/phone.png is 48 x 32 pixels as it lies in its file" in line
    assert "--set oriented=true" in line
    turned = ("--set", "oriented=true", "--out", "turned.zarr")
    assert "4 images extracted" in run(*SMALL, *turned).stdout
    with FeatureStore.open("turned.zarr") as store:
        assert torch.equal(store.read("phone")["rgb"], store.read("upright")["rgb"])

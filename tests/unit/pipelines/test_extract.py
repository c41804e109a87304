"""Stage extract: what it does, what it refuses, and what is left when it is interrupted."""

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from matchkit.cache.layout import image_bytes
from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.errors import ConfigError, DatasetError, StoreError
from matchkit.extract.backbones.pixels import Pixels, PixelsParams
from matchkit.pipelines.extract import Extraction, extract
from matchkit.pipelines.space import free_bytes

SETTINGS = ("input_size=32", "dtype=fp32", "batch=2")
IMAGES = 8


@pytest.fixture
def folder(tmp_path: Path, draw: Callable[[tuple[int, int], int], Image.Image]) -> Path:
    """A folder of photographs."""
    (tmp_path / "photos").mkdir()
    for number in range(IMAGES):
        draw((40, 30), number).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def at_work() -> list[str]:
    """The names of an extraction's threads."""
    kinds = ("matchkit-decode", "matchkit-compute", "matchkit-write")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(kinds)]


def run(folder: Path, out: str = "F.zarr", **options: object) -> Extraction:
    where = folder.parent / out
    return extract("folder", "pixels", root=folder, out=where, settings=SETTINGS, device="cpu", **options)


def test_what_is_missing_is_done_once(folder: Path) -> None:
    assert (run(folder, limit=3).done, run(folder, limit=3).done) == (3, 0)
    last = run(folder)
    assert (last.present, last.done) == (3, IMAGES - 3)
    store = FeatureStore.open(folder.parent / "F.zarr")
    assert store.ids == [str(number) for number in range(IMAGES)]
    assert store.spec.digest() == last.digest
    assert (folder.parent / "F.zarr/ledger/manifest.json").exists()


def test_mirrored_copies_stand_behind_the_images(folder: Path) -> None:
    run(folder, limit=3)
    assert run(folder, limit=3, poses=("hflip",)).done == 3
    store = FeatureStore.open(folder.parent / "F.zarr")
    assert store.ids == ["0", "1", "2", "0@flip", "1@flip", "2@flip"]
    for image_id in ("0", "1", "2"):
        plain, turned = store.read(image_id)["rgb"], store.read(f"{image_id}@flip")["rgb"]
        torch.testing.assert_close(turned.flip(-1), plain, rtol=0, atol=1e-6)
        assert store.image_crc32c(image_id) == store.image_crc32c(f"{image_id}@flip") != 0


def test_turned_copies_come_pose_by_pose(folder: Path) -> None:
    run(folder, limit=2, poses=("hflip", "rot90", "rot270"))
    store = FeatureStore.open(folder.parent / "F.zarr")
    endings = ("", "@flip", "@rot90", "@rot270")
    assert store.ids == [f"{number}{ending}" for ending in endings for number in range(2)]
    for number in range(2):
        plain, left, right = (store.read(f"{number}{ending}")["rgb"] for ending in ("", "@rot90", "@rot270"))
        # 40 x 30 pixels stretched to a square: cells of one pose are cells of the other up to rounding
        torch.testing.assert_close(torch.rot90(plain, 1, (-2, -1)), left, rtol=0, atol=0.01)
        torch.testing.assert_close(torch.rot90(plain, -1, (-2, -1)), right, rtol=0, atol=0.01)
        assert not torch.allclose(left, right, atol=0.05)


@pytest.mark.parametrize(
    ("flags", "endings"),
    [
        ((), ("",)),
        (("--flip",), ("", "@flip")),
        (("--rotate",), ("", "@rot90", "@rot270")),
        (("--rotate", "--flip"), ("", "@flip", "@rot90", "@rot270")),
    ],
)
def test_the_verbs_take_the_poses_as_flags(folder: Path, flags: tuple[str, ...], endings: tuple[str, ...]) -> None:
    out = folder.parent / "F.zarr"
    told = ["--dataset", "folder", "--root", str(folder), "--backbone", "pixels", "--limit", "1", "--out", str(out)]
    for verb in (["plan", "--no-probe"], ["extract"]):
        result = CliRunner().invoke(main, [*verb, *told, *flags], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert f"{len(endings)} " in result.stdout
    assert FeatureStore.open(out).ids == [f"0{ending}" for ending in endings]


def test_a_photograph_that_has_changed_is_done_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(folder)
    shutil.copy(folder / "0.png", folder / "5.png")
    assert run(folder).done == 1
    assert "image '5' has changed" in caplog.text
    store = FeatureStore.open(folder.parent / "F.zarr")
    assert torch.equal(store.read("5")["rgb"], store.read("0")["rgb"])
    assert run(folder).done == 0


def test_what_cannot_be_decoded_is_listed_after_the_rest_is_done(folder: Path) -> None:
    for name in ("3.png", "6.png"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match=r"2 of 8 images cannot be extracted: .*3\.png.*6\.png"):
        run(folder)
    assert FeatureStore.open(folder.parent / "F.zarr").ids == ["0", "1", "2", "4", "5", "7"]


def test_nothing_is_begun_without_the_room_for_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)
    size = image_bytes(Pixels(PixelsParams(input_size=32, dtype="fp32"), device=torch.device("cpu")).spec)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=IMAGES * size - 1))
    with pytest.raises(StoreError, match=r"8 images will take 0\.00 GB, and its disk has 0\.00 GB free.*--force"):
        run(folder)
    assert not (folder.parent / "F.zarr").exists()
    assert run(folder, limit=IMAGES - 1).done == IMAGES - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size))
    assert run(folder).done == 1  # what is there already takes no more room
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert run(folder, out="forced.zarr", force=True).done == IMAGES


def test_room_is_counted_on_the_disk_where_the_store_will_be(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "there" / "yet.zarr") == pytest.approx(
        shutil.disk_usage(tmp_path).free, rel=0.2
    )
    assert free_bytes("s3://bucket/features.zarr") is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_complete_is_kept_when_it_is_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: signal.Signals
) -> None:
    calls = 0
    plain = Pixels.__call__

    def interrupting(backbone: Pixels, images: torch.Tensor, ids: list[str]) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), number)
        return plain(backbone, images, ids)

    monkeypatch.setattr(Pixels, "__call__", interrupting)
    before = signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit(143)))
    try:
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - KeyboardInterrupt or SystemExit
            extract(*("folder", "pixels"), root=folder, out=folder.parent / "F.zarr", settings=(*SETTINGS, "threads=1"))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert isinstance(caught.value, KeyboardInterrupt if number == signal.SIGINT else SystemExit)
    assert at_work() == []
    kept = FeatureStore.open(folder.parent / "F.zarr").ids
    assert kept == [str(image) for image in range(len(kept))]
    assert len(kept) < IMAGES
    assert f"stopped. {len(kept)} of 8 images are complete and kept" in caplog.text
    assert FeatureStore.open(folder.parent / "F.zarr").place.held("images") == []
    monkeypatch.undo()
    assert run(folder).done == IMAGES - len(kept)


def test_an_error_of_the_backbone_is_no_failure_of_an_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> dict[str, torch.Tensor]:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Pixels, "__call__", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(folder)
    monkeypatch.undo()
    assert run(folder).done == IMAGES


def test_what_stands_against_each_other_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="give --scheduler, or --workers, not both"):
        run(folder, workers=2, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(ConfigError, match="batch must be at least 1"):
        extract("folder", "pixels", root=folder, settings=("batch=0",), out=folder.parent / "F.zarr")


def test_the_log_says_where_it_computes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "matchkit")
    extract("folder", "pixels", root=folder, settings=SETTINGS, out=folder.parent / "F.zarr")
    assert "computing on " in caplog.text

"""Conditions rendered into a store: exactly, once, again where a photograph has changed, and what is refused."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from matchkit.cache.layout import image_bytes
from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.conditions import ConditionKind, condition_spec_of
from matchkit.core.errors import ConfigError, DatasetError, SpecMismatchError, StoreError
from matchkit.core.geometry import place
from matchkit.extract.conditions.place import mirrored_condition, place_condition
from matchkit.extract.datasets.folder import Folder
from matchkit.pipelines import conditions as module
from matchkit.pipelines.conditions import Conditions, conditions, open_conditioned

IMAGES, SIZE = 6, (40, 30)
SETTINGS = ("side=16",)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is cut here: syncs would only wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def folder(tmp_path: Path, draw: Callable[[tuple[int, int], int], Image.Image]) -> Path:
    """A folder of photographs with poses, masks and edges."""
    root = tmp_path / "photos"
    for kind in ("pose", "mask", "edge"):
        (root / "conditions" / kind).mkdir(parents=True)
    (root / "conditions" / "mask" / "classes.txt").write_text("background\nleft_ear\nright_ear\n")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        draw(SIZE, number).save(root / f"{number}.png")
        labels = rng.integers(0, 3, SIZE[::-1], dtype=np.uint8)
        Image.fromarray(labels).save(root / "conditions" / "mask" / f"{number}.png")
        Image.fromarray(100 * labels).save(root / "conditions" / "edge" / f"{number}.png")
        joints = np.concatenate([rng.uniform(2, 28, (18, 2)), np.ones((18, 1))], axis=1)
        pose = json.dumps({"people": [{"pose_keypoints_2d": joints.ravel().tolist()}]})
        (root / "conditions" / "pose" / f"{number}.json").write_text(pose)
    return root


def run(folder: Path, kind: str = "mask", *settings: str, **options: object) -> Conditions:
    where = folder.parent / "F.zarr"
    return conditions("folder", kind, root=folder, out=where, settings=(*SETTINGS, *settings), **options)


def opened(folder: Path) -> FeatureStore:
    return FeatureStore.open(folder.parent / "F.zarr")


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("kind", ["pose", "mask", "edge"])
def test_conditions_lie_where_the_photographs_do(folder: Path, kind: ConditionKind, fit: str) -> None:
    done = run(folder, kind, f"fit={fit}", "dtype=fp32")
    assert (done.present, done.done) == (0, IMAGES)
    data, store = Folder(folder), opened(folder)
    spec = data.condition_spec(kind)
    assert condition_spec_of(store.spec) == spec
    assert (store.spec.fit, store.spec.digest()) == (fit, done.digest)
    placement = place(SIZE, (16, 16), fit=store.spec.fit)
    for image_id in store.ids:
        expected = place_condition(data.condition(image_id, kind), spec, placement)
        assert np.array_equal(store.read(image_id)["condition"][0].numpy(), expected)


def test_labels_are_exact_in_half_precision(folder: Path) -> None:
    run(folder, "mask", "side=64")
    values = opened(folder).read("3")["condition"]
    assert values.dtype == torch.float16
    assert set(values.unique().tolist()) == {0.0, 1.0, 2.0}


def test_what_is_missing_is_done_once(folder: Path) -> None:
    assert (run(folder, limit=2).done, run(folder, limit=2).done) == (2, 0)
    last = run(folder)
    assert (last.present, last.done) == (2, IMAGES - 2)
    assert opened(folder).ids == [str(number) for number in range(IMAGES)]
    assert (folder.parent / "F.zarr/ledger/manifest.json").exists()


@pytest.mark.parametrize("told", ["option", "parameter"])
def test_mirrored_copies_stand_behind_the_images(folder: Path, told: str) -> None:
    run(folder, limit=2)
    again = run(folder, limit=2, flip=True) if told == "option" else run(folder, "mask", "flip=true", limit=2)
    assert (again.present, again.done) == (2, 2)
    store, spec = opened(folder), Folder(folder).condition_spec("mask")
    assert store.ids == ["0", "1", "0@flip", "1@flip"]
    for image_id in ("0", "1"):
        plain, turned = (store.read(name)["condition"][0].float().numpy() for name in (image_id, f"{image_id}@flip"))
        assert not np.array_equal(plain, turned)
        data = Folder(folder).condition(image_id, "mask")
        expected = place_condition(mirrored_condition(data, spec), spec, place(SIZE, (16, 16), fit="stretch"))
        assert np.array_equal(turned, expected)
        assert store.image_crc32c(image_id) == store.image_crc32c(f"{image_id}@flip") != 0


def test_beside_a_photograph_that_has_changed_it_is_done_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(folder)
    shutil.copy(folder / "0.png", folder / "4.png")
    shutil.copy(folder / "conditions/mask/0.png", folder / "conditions/mask/4.png")
    assert run(folder).done == 1
    assert "image '4' has changed since its condition was rendered" in caplog.text
    assert torch.equal(*(opened(folder).read(image_id)["condition"] for image_id in "04"))
    assert run(folder).done == 0


def test_what_cannot_be_rendered_is_listed_after_the_rest_is_done(folder: Path) -> None:
    masks = folder / "conditions" / "mask"
    (masks / "1.png").unlink()
    (masks / "3.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"2 of 6 conditions cannot be rendered: .*1\.png.*3\.png"):
        run(folder)
    assert opened(folder).ids == ["0", "2", "4", "5"]
    for name in ("1.png", "3.png"):
        shutil.copy(masks / "0.png", masks / name)
    assert (run(folder).present, run(folder).done) == (4, 0)


def test_a_condition_of_another_size_than_told_is_a_failure_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Folder.condition

    def halved(self: Folder, image_id: str, kind: ConditionKind) -> np.ndarray:
        values = plain(self, image_id, kind)
        return values[:, ::2] if image_id == "2" else values

    monkeypatch.setattr(Folder, "condition", halved)
    with pytest.raises(DatasetError, match=r"1 of 6 .* mask of image '2': a condition of 40 x 15 pixels"):
        run(folder)
    assert len(opened(folder).ids) == IMAGES - 1


def test_what_is_written_before_an_error_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Folder.condition

    def failing(self: Folder, image_id: str, kind: ConditionKind) -> np.ndarray:
        if image_id == "3":
            raise RuntimeError("out of memory")
        return plain(self, image_id, kind)

    monkeypatch.setattr(Folder, "condition", failing)
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        run(folder)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("matchkit-render")], caught
    assert opened(folder).ids == ["0", "1", "2"]
    monkeypatch.undo()
    assert run(folder).present == 3


def test_nothing_is_begun_without_the_room_for_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = run(folder, limit=1).digest and opened(folder).spec
    usage, needed = shutil.disk_usage(folder), (IMAGES - 1) * image_bytes(spec)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(StoreError, match=r"5 images will take .*--force"):
        run(folder)
    assert opened(folder).ids == ["0"]
    assert run(folder, force=True).done == IMAGES - 1


def test_the_entries_of_the_parameters(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    Path("params.yaml").write_text(
        "conditions:\n  folder:\n    mask: {side: 8}\n    large: {kind: edge, side: 20, dtype: fp32}\n"
    )
    small, large = (
        conditions("folder", entry, root=folder, settings=("fit=letterbox",)) for entry in ("mask", "large")
    )
    store = FeatureStore.open("features/folder/mask.zarr")
    assert Path(small.store) == Path(large.store).with_name("mask.zarr")
    assert (store.spec.input_size, store.spec.fit, store.spec.dtype) == ((8, 8), "letterbox", "fp16")
    store = FeatureStore.open("features/folder/large.zarr")
    assert (store.spec.input_size, store.spec.options["kind"], store.spec.dtype) == ((20, 20), "edge", "fp32")


def test_what_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"'depth' is no kind of conditions; there are: pose, mask, edge"):
        run(folder, "depth")
    with pytest.raises(ConfigError, match="no parameter 'size'"):
        run(folder, "mask", "size=3")
    with pytest.raises(ConfigError, match="side must be at least 1"):
        run(folder, "mask", "side=0")
    with pytest.raises(ConfigError, match="dtype"):
        run(folder, "mask", "dtype=int8")
    shutil.rmtree(folder / "conditions" / "edge")
    with pytest.raises(DatasetError, match=r"no conditions of kind 'edge'; it has: pose, mask"):
        run(folder, "edge")
    assert not (folder.parent / "F.zarr").exists()
    run(folder)
    with pytest.raises(SpecMismatchError, match="kind: 'pose', not 'mask'"):
        run(folder, "pose")
    monkeypatch.setattr(module, "open_dataset", lambda name, root: object())
    with pytest.raises(DatasetError, match="dataset 'ap10k' has no poses, masks or edges"):
        open_conditioned("ap10k", None)


def test_the_verb(folder: Path) -> None:
    out = folder.parent / "F.zarr"
    told = ["conditions", "--dataset", "folder", "--root", str(folder), "--kind", "edge", "--out", str(out)]
    result = CliRunner().invoke(main, [*told, "--flip", "--limit", "2", *("--set", "side=8")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "F.zarr: 4 conditions rendered, 0 were there, spec " in result.stdout
    assert opened(folder).ids == ["0", "1", "0@flip", "1@flip"]
    (folder / "conditions/edge/5.png").unlink()
    result = CliRunner().invoke(main, [*told, "--set", "side=8", "--json"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "1 of 6 conditions cannot be rendered" in result.stderr

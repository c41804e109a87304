"""A store's metadata: laid out whole or not at all, over nothing of somebody else's, and missed where it is gone."""

import errno
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr

from matchkit.cache import group
from matchkit.cache.places.local import LocalPlace
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import SpecMismatchError, StoreError
from matchkit.core.spec import FeatureSpec

Draw = Callable[[FeatureSpec, int], Mapping[str, torch.Tensor]]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("ten years of work")


def folder_of_folders(path: Path) -> None:
    (path / "chapters/one").mkdir(parents=True)
    (path / "chapters/one/thesis.txt").write_text("ten years of work")


def file(path: Path) -> None:
    path.write_text("ten years of work")


def zarr_group(path: Path) -> None:
    made = zarr.create_group(path, attributes={"made by": "somebody else"})
    made.create_array("data", shape=(2,), chunks=(2,), dtype="f4")[:] = 1


def zarr_array(path: Path) -> None:
    zarr.create_array(path, shape=(2,), chunks=(2,), dtype="f4")[:] = 1


def no_json(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text("{")


def json_list(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text("[]")


def no_attributes(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text('{"attributes": null}')


@pytest.mark.parametrize(
    "make", [folder, folder_of_folders, file, zarr_group, zarr_array, no_json, json_list, no_attributes]
)
def test_what_is_somebody_elses_is_refused_and_left_alone(
    tmp_path: Path, spec: FeatureSpec, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "F.zarr"
    make(path)
    before = contents(tmp_path)
    for attempt in (FeatureStore.open, lambda path: FeatureStore.create(path, spec, ["a"])):
        with pytest.raises(StoreError, match=r"F\.zarr"):
            attempt(path)
    assert contents(tmp_path) == before
    assert {item.name for item in tmp_path.iterdir()} == {"F.zarr"}


def test_nothing_there_is_refused_to_readers_and_taken_by_writers(tmp_path: Path, spec: FeatureSpec) -> None:
    for name in ("none", "empty"):
        if name == "empty":
            (tmp_path / name).mkdir()
        with pytest.raises(StoreError, match=rf"no feature store at .*{name}\. Run: matchkit extract"):
            FeatureStore.open(tmp_path / name)
        with FeatureStore.create(tmp_path / name, spec, ["a"]) as store:
            assert store.ids == []


@pytest.mark.parametrize("spec", ["fp16"], indirect=True)
def test_the_laying_out_is_whole_or_begun_again(
    tmp_path: Path, spec: FeatureSpec, failing: Callable[..., Any], random_maps: Draw
) -> None:
    """Stopped at any call, whatever is left of it; the next one may want other images."""
    for number in range(200):
        path = tmp_path / f"{number}.zarr"
        with failing(number, errno.EIO) as failed:
            try:
                FeatureStore.create(path, spec, ["x", "a"]).close()
            except StoreError as error:
                assert "Input/output error" in str(error)  # noqa: PT017 - it is not always raised
        with FeatureStore.create(path, spec, ["a", "b"]) as store:
            store.write("b", random_maps(spec, 1))
            assert FeatureStore.open(path).missing(["a", "b"]) == ["a"]
        shutil.rmtree(path)
        if not failed:
            break
    assert 20 < number < 199


@pytest.mark.parametrize("spec", ["fp16"], indirect=True)
def test_rows_are_added_whole_or_not_at_all(
    store: FeatureStore, spec: FeatureSpec, failing: Callable[..., Any]
) -> None:
    store.close()
    for number in range(200):
        with failing(number, errno.EIO) as failed:
            try:
                FeatureStore.create(str(store), spec, ["e", f"f{number}"]).close()
            except StoreError as error:
                assert "Input/output error" in str(error)  # noqa: PT017 - it is not always raised
        layout = group.read_layout(LocalPlace(Path(str(store))))
        assert list(layout.ids[:4]) == ["a", "b", "c", "d"]
        for name in ("up0.0", "up1.0"):
            rows = json.loads((Path(str(store)) / name / "zarr.json").read_text())["shape"][0]
            assert rows >= len(layout.ids)
        assert FeatureStore.open(str(store)).ids == ["a", "b", "c"]
        if not failed:
            break
    assert set(layout.ids[4:]) >= {"e", f"f{number}"}
    assert 10 < number < 199


def test_two_creators_at_once_agree_on_the_spec(
    tmp_path: Path, spec: FeatureSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one lays its store out after the first has looked and before it has claimed the layout."""
    other, free = spec.derive(revision=9), group.require_free

    def overtaken(place: LocalPlace) -> None:
        free(place)
        monkeypatch.undo()
        FeatureStore.create(tmp_path / "F.zarr", other, ["b"]).close()

    monkeypatch.setattr(group, "require_free", overtaken)
    with pytest.raises(SpecMismatchError, match=r"F\.zarr holds features of another spec \(.*revision: "):
        FeatureStore.create(tmp_path / "F.zarr", spec, ["a"])
    assert FeatureStore.open(tmp_path / "F.zarr", other).missing(["a", "b"]) == ["a", "b"]


def test_a_store_that_lost_its_metadata_is_not_laid_out_over(store: FeatureStore, spec: FeatureSpec) -> None:
    """Its ledger counts rows: under ids in another order these would be other images."""
    for finalized in (False, True):
        if finalized:
            store.finalize()
        lost = Path(str(store)) / "zarr.json"
        kept = lost.read_bytes()
        lost.unlink()
        with pytest.raises(StoreError, match=r"F\.zarr lacks its zarr\.json: perhaps half of it was copied"):
            FeatureStore.create(str(store), spec, ["d", "c", "b", "a"])
        with pytest.raises(StoreError, match="no feature store at"):
            FeatureStore.open(str(store))
        lost.write_bytes(kept)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (None, r"F\.zarr lacks its array up1\.0: perhaps half of it was copied"),
        (b"{", r"up1\.0/zarr\.json is no JSON"),
        (b"3", r"up1\.0/zarr\.json is not the metadata"),
        ({"shape": [4, 3, 4, 6, 3]}, r"array up1\.0 is float.. \[4, 3, 4, 6, 3\], not float.. \[images, 3, 4, 6, 2\]"),
        ({"data_type": "int8"}, r"array up1\.0 is int8 "),
        ({"shape": []}, r"array up1\.0 is "),
        ({"shape": None}, r"array up1\.0 is "),
    ],
)
def test_an_array_that_is_not_as_the_spec_says_is_refused(
    store: FeatureStore, change: bytes | dict[str, Any] | None, told: str
) -> None:
    path = Path(str(store)) / "up1.0/zarr.json"
    if change is None:
        path.unlink()
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=told):
        FeatureStore.open(str(store))


def test_notes_are_kept_in_the_attributes(store: FeatureStore, spec: FeatureSpec) -> None:
    store.note("agreement", {"up0.0": 0.99})
    with FeatureStore.create(str(store), spec, ["e"]) as other:
        assert other.notes == {"agreement": {"up0.0": 0.99}}
        other.note("loss", [1, 2])
    assert FeatureStore.open(str(store)).notes == {"agreement": {"up0.0": 0.99}, "loss": [1, 2]}
    assert FeatureStore.open(str(store)).ids == ["a", "b", "c"]

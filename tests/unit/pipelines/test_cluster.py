"""Tasks for the workers of a cluster, and what a worker does with one; the cluster itself is tested end to end."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from matchkit.cache.store import FeatureStore
from matchkit.core.errors import ConfigError
from matchkit.core.records import ImageRecord
from matchkit.extract.backbones.pixels import Pixels, PixelsParams
from matchkit.pipelines import cluster
from matchkit.pipelines.cluster import Cluster, Job, Task, fill_by, tasks, work
from matchkit.pipelines.prepare import ExtractParams, Prepared
from matchkit.pipelines.tally import Tally

CPU = torch.device("cpu")
SMALL = {"input_size": 32}  # images that share files, 16 a file
LARGE = {"input_size": 1024, "cell": 2}  # a file an image


def backbone(values: dict[str, int]) -> Pixels:
    return Pixels(PixelsParams(**values), device=CPU)


def job(where: Path, values: dict[str, int]) -> Job:
    return Job(str(where), backbone(values).spec.digest(), "pixels", json.dumps(values), 2, "cpu")


@pytest.fixture
def records(photos: list[ImageRecord]) -> list[ImageRecord]:
    """Forty records of one photograph."""
    return [replace(photos[0], id=f"cat/{number:02d}") for number in range(40)]


def lay_out(where: Path, values: dict[str, int], records: list[ImageRecord]) -> None:
    FeatureStore.create(where, backbone(values).spec, [record.id for record in records]).close()


def test_images_that_share_files_stand_in_one_task(tmp_path: Path, records: list[ImageRecord]) -> None:
    lay_out(tmp_path / "F.zarr", SMALL, records)
    found = tasks(str(tmp_path / "F.zarr"), records[::-1], batch=2, at_a_time=2)
    assert [len(task.records) for task in found] == [16, 16, 8]
    assert [task.groups for task in found] == [{0}, {1}, {2}]
    assert [record.id for task in found for record in task.records] == [record.id for record in records]
    some = [*records[3:5], *records[20:21], *records[39:]]
    assert [len(task.records) for task in tasks(str(tmp_path / "F.zarr"), some, batch=2, at_a_time=2)] == [4]
    assert tasks(str(tmp_path / "F.zarr"), [], batch=2, at_a_time=2) == []


def test_images_with_files_of_their_own_make_small_tasks(tmp_path: Path, records: list[ImageRecord]) -> None:
    lay_out(tmp_path / "F.zarr", LARGE, records)
    few, more, most = (
        [len(task.records) for task in tasks(str(tmp_path / "F.zarr"), records, batch=batch, at_a_time=at_a_time)]
        for batch, at_a_time in ((3, 40), (2, 4), (2, 1))
    )
    assert few == [3] * 13 + [1]
    assert more == [2] * 20
    assert most == [8] * 5  # so large that one image is written while others are computed


@pytest.mark.parametrize(("batch", "sizes"), [(20, [80, 80, 80, 80]), (32, [32] * 10), (16, [64] * 5)])
def test_tasks_fill_whole_batches_where_there_are_enough(
    tmp_path: Path, photos: list[ImageRecord], batch: int, sizes: list[int]
) -> None:
    records = [replace(photos[0], id=f"{number:03d}") for number in range(320)]
    lay_out(tmp_path / "F.zarr", SMALL, records)
    assert [len(task.records) for task in tasks(str(tmp_path / "F.zarr"), records, batch=batch, at_a_time=1)] == sizes


def test_a_worker_does_what_is_missing(tmp_path: Path, records: list[ImageRecord]) -> None:
    where = tmp_path / "F.zarr"
    broken = replace(records[5], path=tmp_path / "gone.png")
    lay_out(where, SMALL, records)
    task = Task((*records[:5], broken), frozenset({0}))
    done = work(job(where, SMALL), task)
    assert done.written == 5
    assert len(done.failures) == 1
    assert "gone.png is missing" in done.failures[0]
    before = FeatureStore.open(where).content
    assert work(job(where, SMALL), task).written == 5  # a second time, as for a task that was lost at its very end
    assert FeatureStore.open(where).content == before
    assert FeatureStore.open(where).place.held("images") == []


def test_a_worker_waits_for_one_that_was_given_up(tmp_path: Path, records: list[ImageRecord]) -> None:
    where = tmp_path / "F.zarr"
    lay_out(where, SMALL, records)
    other = FeatureStore.open(where)
    pixels = backbone(SMALL)
    other.write("cat/00", {layer: maps[0] for layer, maps in pixels(torch.rand(1, 3, 32, 32), ["cat/00"]).items()})
    ending = threading.Timer(0.3, other.close)
    ending.start()
    start = time.monotonic()
    done = work(job(where, SMALL), Task(tuple(records[:4]), frozenset({0})))
    assert time.monotonic() - start >= 0.25
    assert done.written == 4
    ending.join()
    assert FeatureStore.open(where).ids == [record.id for record in records[:4]]


def test_a_worker_with_other_weights_refuses(tmp_path: Path, records: list[ImageRecord]) -> None:
    lay_out(tmp_path / "F.zarr", SMALL, records)
    wrong = replace(job(tmp_path / "F.zarr", SMALL), values=json.dumps({"input_size": 64}))
    with pytest.raises(ConfigError, match="other weights or another version of matchkit"):
        work(wrong, Task(tuple(records[:1]), frozenset({0})))


def test_a_backbone_is_loaded_once_a_process(tmp_path: Path) -> None:
    first = job(tmp_path, SMALL)
    assert cluster._BACKBONES.get(first) is cluster._BACKBONES.get(job(tmp_path, SMALL))
    assert cluster._BACKBONES.get(job(tmp_path, LARGE)) is not cluster._BACKBONES.get(first)


def test_paths_among_the_parameters_are_understood_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "tiny").mkdir()
    values = {"weights": "weights", "prompt": "weights", "unet": "weights/not-there", "steps": 4}
    prepared = Prepared(backbone(SMALL), "pixels", values, ExtractParams(), CPU)
    told = json.loads(cluster._job("F.zarr", prepared, device="cpu").values)
    assert told == values | {"weights": str(tmp_path / "weights")}
    assert cluster._job("F.zarr", prepared, device="cpu").store == str(tmp_path / "F.zarr")
    assert cluster._job("s3://bucket/F.zarr", prepared, device="cpu").store == "s3://bucket/F.zarr"
    embedded = Prepared(backbone(SMALL), "pixels", {"weights": "tiny"}, ExtractParams(), CPU)
    assert json.loads(cluster._job("F.zarr", embedded, device="cpu").values) == {"weights": "tiny"}


def test_a_scheduler_that_does_not_answer_names_the_command(
    tmp_path: Path, records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    lay_out(tmp_path / "F.zarr", SMALL, records)
    prepared = Prepared(backbone(SMALL), "pixels", dict(SMALL), ExtractParams(), CPU)
    for address in ("tcp://127.0.0.1:9", "nonsense://somewhere"):
        with (
            Tally(images=40, bytes_an_image=1) as tally,
            pytest.raises(ConfigError, match=r"no dask scheduler answers at .*Run: dask scheduler"),
        ):
            fill_by(Cluster(address), tmp_path / "F.zarr", prepared, records, device="cpu", tally=tally)

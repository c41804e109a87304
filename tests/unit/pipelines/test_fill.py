"""Computing and writing side by side."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.records import Canvas, ImageRecord
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.pipelines.fill import WAITING, fill
from matchkit.pipelines.tally import Tally

SPEC = FeatureSpec("fake", "none", (LayerSpec("mean", 3, (1, 1)),), (0,), (8, 8), "stretch", "fp32")


class Counting:
    """A backbone that counts its images."""

    spec = SPEC
    canvases = (Canvas(SPEC.input_size, SPEC.fit),)

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, images: torch.Tensor, ids: Sequence[str], *others: torch.Tensor) -> dict[str, torch.Tensor]:
        self.images += len(images)
        return {"mean": images.mean((2, 3))[:, None, :, None, None]}


class Slow(FeatureStore):
    """A store on a slow disk that notes who writes, and how many images were computed and not yet written."""

    def watch(self, backbone: Counting, *, fails_at: int = -1) -> None:
        self.writers: set[int] = set()
        self.written = self.most = 0
        self._backbone, self._fails_at = backbone, fails_at

    def write(self, image_id: str, maps: Mapping[str, torch.Tensor], *, image_crc32c: int = 0) -> None:
        self.writers.add(threading.get_ident())
        time.sleep(0.005)
        if self.written == self._fails_at:
            raise StoreError("the disk is full")
        super().write(image_id, maps, image_crc32c=image_crc32c)
        self.written += 1
        self.most = max(self.most, self._backbone.images - self.written)


def at_work() -> list[str]:
    """The names of an extraction's threads."""
    kinds = ("matchkit-decode", "matchkit-compute", "matchkit-write")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(kinds)]


def many(photos: list[ImageRecord], count: int = 40) -> list[ImageRecord]:
    return [ImageRecord(f"cat/{number}", photos[0].path, photos[0].size) for number in range(count)]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_slow_disk_slows_down_the_rest(photos: list[ImageRecord], tmp_path: Path, threads: int) -> None:
    records, backbone = many(photos), Counting()
    with (
        Slow.create(tmp_path / "F.zarr", SPEC, [record.id for record in records]) as store,
        Tally(images=40, bytes_an_image=12) as tally,
    ):
        store.watch(backbone)
        fill(store, backbone, records, batch=2, threads=threads, decoders=1, tally=tally)
    assert tally.written == 40
    assert store.most <= WAITING + 1 + 2 * (threads + 2)
    (writer,) = store.writers
    assert writer != threading.get_ident()


def test_a_full_disk_ends_the_computing(photos: list[ImageRecord], tmp_path: Path) -> None:
    records, backbone = many(photos), Counting()
    with (
        Slow.create(tmp_path / "F.zarr", SPEC, [record.id for record in records]) as store,
        Tally(images=40, bytes_an_image=12) as tally,
    ):
        store.watch(backbone, fails_at=3)
        with pytest.raises(StoreError, match="the disk is full"):
            fill(store, backbone, records, batch=2, threads=1, decoders=1, tally=tally)
    assert tally.written == 3
    assert backbone.images < 40
    assert FeatureStore.open(tmp_path / "F.zarr").ids == ["cat/0", "cat/1", "cat/2"]
    assert at_work() == []

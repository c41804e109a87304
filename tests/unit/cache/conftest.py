"""A small store that the tests of this folder open, write and damage, and system calls that fail when told."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from matchkit.cache import layout
from matchkit.cache.care.repair import repair
from matchkit.cache.care.verify import verify
from matchkit.cache.store import FeatureStore
from matchkit.core.spec import FeatureSpec, LayerSpec

Maps = Mapping[str, torch.Tensor]
Same = Callable[[Mapping[str, torch.Tensor], Maps], bool]
CHANGES = ("open", "write", "fsync", "ftruncate", "replace", "unlink", "mkdir", "sendfile", "pwrite")
"""The calls of `os` by which a store is changed."""
NEEDS_ROOM = ("open", "write", "fsync", "mkdir", "sendfile", "pwrite")


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is cut here: thousands of syncs would only wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(params=["fp16", "fp32"])
def spec(request: pytest.FixtureRequest) -> FeatureSpec:
    """Two layers of different shape, three timesteps that are not in ascending order."""
    layers = (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("up1.0", 2, (4, 6)))
    return FeatureSpec("pixels", "none", layers, (460, -1, 60), (48, 32), "stretch", request.param)


@pytest.fixture
def sharing(spec: FeatureSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images share shard files: with fp32 in both layers, with fp16 in the first one alone."""
    if spec.dtype == "fp16":
        monkeypatch.setattr(layout, "SMALL_SHARD", 200)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores with a shard file for every image."""
    monkeypatch.setattr(layout, "SMALL_SHARD", 0)


@pytest.fixture
def store(
    tmp_path: Path,
    spec: FeatureSpec,
    sharing: None,
    random_maps: Callable[[FeatureSpec, int], Maps],
) -> Iterator[FeatureStore]:
    """A store with rows for four images, of which the first three are complete."""
    with FeatureStore.create(tmp_path / "F.zarr", spec, ["a", "b", "c", "d"]) as store:
        for seed, image_id in enumerate("abc"):
            store.write(image_id, random_maps(spec, seed), image_crc32c=100 + seed)
        yield store


@pytest.fixture(scope="session")
def same() -> Same:
    """Compares maps bit for bit, type and all."""

    def compared(read: Mapping[str, torch.Tensor], written: Maps) -> bool:
        return list(read) == list(written) and all(
            read[name].dtype == written[name].dtype
            and np.array_equal(read[name].contiguous().view(torch.uint8), written[name].contiguous().view(torch.uint8))
            for name in written
        )

    return compared


@pytest.fixture(scope="session")
def failing() -> Callable[..., object]:
    """`with failing(n, error)`: the n-th call that changes a file, and all later ones that need room, fail.

    Yields a list that is empty as long as none has failed.
    """

    @contextmanager
    def armed(number: int, error: int) -> Iterator[list[str]]:
        failed: list[str] = []
        calls = iter(range(10**9))

        def breakable(name: str) -> Callable[..., object]:
            real = getattr(os, name)

            def call(*arguments: object, **options: object) -> object:
                if next(calls) == number or (failed and name in NEEDS_ROOM and not reads(name, arguments)):
                    failed.append(name)
                    raise OSError(error, os.strerror(error))
                return real(*arguments, **options)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in CHANGES:
                patch.setattr(os, name, breakable(name))
            yield failed

    def reads(name: str, arguments: tuple[object, ...]) -> bool:
        return name == "open" and not int(str(arguments[1])) & (os.O_WRONLY | os.O_RDWR)

    return armed


SHELF_LAYERS = (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("up1.0", 2, (4, 6)))
SHELF_IDS = [f"cat/{number}" for number in range(18)]


@dataclass
class Shelf:
    """A store on the disk: 17 of 18 images, in shard files of their own or of 16 images, of one codec."""

    path: Path
    kind: str
    spec: FeatureSpec

    def maps(self, row: int) -> Mapping[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(row)
        return {layer.name: torch.randn(3, layer.channels, *layer.grid, generator=generator) for layer in SHELF_LAYERS}

    def create(self, where: str | Path | None = None) -> FeatureStore:
        return FeatureStore.create(where or self.path, self.spec, SHELF_IDS, compressed=self.kind == "compressed")

    def fill(self, where: str | Path | None = None) -> None:
        with self.create(where) as store:
            for row in range(17):
                store.write(SHELF_IDS[row], self.maps(row), image_crc32c=row)
            store.finalize()

    @property
    def shard(self) -> str:
        """The file of cat/3 in up0.0."""
        return "up0.0/c.0.0.0.0.0" if self.kind == "shared" else "up0.0/c.3.0.0.0.0"

    @property
    def together(self) -> list[str]:
        """The images in that file."""
        return SHELF_IDS[:16] if self.kind == "shared" else [SHELF_IDS[3]]

    def read(self) -> dict[str, dict[str, torch.Tensor]]:
        store = FeatureStore.open(self.path)
        return {image_id: store.read(image_id) for image_id in store.ids}

    def seen(self, path: Path | str | None = None) -> set[tuple[str, str, str | None]]:
        """What is found, as (kind, where, image)."""
        findings = verify(path or self.path)
        assert all(str(path or self.path) in finding.remedy or finding.kind == "lost" for finding in findings)
        return {(finding.kind, finding.where, finding.image_id) for finding in findings}

    def mended(self, *, withdrawn: list[str]) -> None:
        """Repairs, and sees to it that nothing is wrong any more and nothing else lost; then writes that anew."""
        assert list(repair(self.path, verify(self.path))) == withdrawn
        assert verify(self.path) == []
        self.holds([image_id for image_id in SHELF_IDS[:17] if image_id not in withdrawn])
        group = zarr.open_group(self.path, mode="r")
        for image_id in withdrawn:
            assert not np.asarray(group["up0.0"][SHELF_IDS.index(image_id)]).any()  # absent for zarr too
        with self.create() as store:
            for image_id in withdrawn:
                store.write(image_id, self.maps(SHELF_IDS.index(image_id)))
            store.finalize()
        assert verify(self.path) == []
        self.holds(SHELF_IDS[:17])

    def holds(self, ids: list[str]) -> None:
        """Sees to it that these images are complete, with the maps that were written."""
        found = self.read()
        assert list(found) == ids
        tolerance = 0.02 if self.spec.dtype == "int8" else 1e-3
        for image_id, maps in found.items():
            written = self.maps(SHELF_IDS.index(image_id))
            for name in written:
                torch.testing.assert_close(maps[name].float(), written[name], atol=tolerance, rtol=tolerance)


@pytest.fixture(params=["apart fp16", "shared fp16", "apart int8", "shared int8", "compressed fp16"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    kind, dtype = request.param.split()
    monkeypatch.setattr(layout, "SMALL_SHARD", 1 << 20 if kind == "shared" else 0)
    spec = FeatureSpec("pixels", "none", SHELF_LAYERS, (460, -1, 60), (48, 32), "stretch", dtype)
    shelf = Shelf(tmp_path / "F.zarr", kind, spec)
    shelf.fill()
    return shelf

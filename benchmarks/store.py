"""The feature store beside its floor (plain pread and sequential write of the same bytes) and beside other formats.

    PYTHONSAFEPATH=1 python benchmarks/store.py [--images 3] [--rounds 5] [--folder DIR]

One image is what Stable Diffusion 1.5 gives at 512 pixels: 12 layers x 11 timesteps, 156.8 MB in fp16 (random numbers:
no format here compresses). In every round each backend has its turn at each pattern; the best round counts, of cold
reads the median. Cold means dropped from this machine's page cache; what lies beneath a virtual disk may still
remember. zarrs where installed.
"""

import importlib.util
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import click
import h5py
import numpy as np
import torch
import zarr

from matchkit.cache.buffers import memory
from matchkit.cache.keypoints import LAYER
from matchkit.cache.store import FeatureStore
from matchkit.core.spec import FeatureSpec, LayerSpec

TIMESTEPS = (*range(0, 1000, 100), 999)
LAYERS = tuple(
    LayerSpec(f"up{block}.{number}", channels, (side, side))
    for block, channels, side in ((0, 1280, 8), (1, 1280, 16), (2, 640, 32), (3, 320, 64))
    for number in range(3)
)
SPEC = FeatureSpec("benchmark", "none", LAYERS, TIMESTEPS, (512, 512), "stretch", "fp16")
TABLE = FeatureSpec(
    "benchmark", "none", (LayerSpec(LAYER, sum(layer.channels for layer in LAYERS) * 11, (1, 20)),), (0,), (512, 512),
    "stretch", "fp16",
)  # fmt: skip
PATTERNS: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "image": (tuple(layer.name for layer in LAYERS), tuple(range(11))),
    "chunk": (("up3.2",), (5,)),
    "three": (("up0.2", "up1.2", "up2.2"), (5,)),
}
"""What is read: layers and positions of timesteps. Keypoints are read from a table (`matchkit cache convert`)."""
COLD = 6
"""Cold reads in a round: one alone says more of the disk than of the format."""
Maps = dict[str, np.ndarray]
"""(t,h,w,c) by layer."""


def shape(layer: LayerSpec) -> tuple[int, ...]:
    return (len(TIMESTEPS), *layer.grid, layer.channels)


class Floor:
    """Files of the very bytes; reading is one preadv a file into memory that is reused."""

    name = "pread / one file"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._room = {layer.name: memory(shape(layer), np.dtype(np.float16)) for layer in LAYERS}
        self._row = memory((20, TABLE.layers[0].channels), np.dtype(np.float16))

    def write(self, number: int, maps: Maps) -> None:
        """Writes one file from beginning to end, synced once; the files that are read are made from it untimed."""
        with (self.folder / f"{number}.whole").open("wb", buffering=0) as file:
            for values in maps.values():
                file.write(values.data)
            os.fdatasync(file.fileno())

    def prepare(self, number: int, maps: Maps, row: np.ndarray) -> None:
        for name, values in maps.items():
            values.tofile(self.folder / f"{number}.{name}")
        row.tofile(self.folder / f"{number}.{LAYER}")

    def read(self, number: int, layers: tuple[str, ...], steps: tuple[int, ...]) -> Maps:
        for name in layers:
            room = self._room[name][steps[0] : steps[-1] + 1]
            self._pread(f"{number}.{name}", room, steps[0] * room[0].nbytes)
        return {name: self._room[name][steps[0] : steps[-1] + 1] for name in layers}

    def keypoints(self, number: int) -> np.ndarray:
        self._pread(f"{number}.{LAYER}", self._row, 0)
        return self._row

    def _pread(self, name: str, room: np.ndarray, offset: int) -> None:
        descriptor = os.open(self.folder / name, os.O_RDONLY)
        done = os.preadv(descriptor, [room], offset)
        assert done == room.nbytes
        os.close(descriptor)


class Matchkit:
    """This project's store, its table of keypoints, and memory that is reused."""

    name = "matchkit"

    def __init__(self, folder: Path, images: int) -> None:
        self.folder = folder
        self._store = FeatureStore.create(folder / "F.zarr", SPEC, [str(number) for number in range(images)])
        self._table = FeatureStore.create(folder / "K.zarr", TABLE, [str(number) for number in range(images)])
        self._rooms = {
            (layers, steps): (self._store.buffers(layers, chosen), chosen)
            for layers, steps in PATTERNS.values()
            for chosen in [[TIMESTEPS[step] for step in steps]]
        }
        self._rows = {
            key: {name: maps.permute(0, 2, 3, 1).numpy() for name, maps in room.items()}
            for key, (room, _) in self._rooms.items()
        }
        self._row = self._table.buffers()
        self._table_row = self._row[LAYER][0, :, 0].T.numpy()

    def write(self, number: int, maps: Maps) -> None:
        self._store.write(str(number), {name: torch.from_numpy(v).permute(0, 3, 1, 2) for name, v in maps.items()})

    def prepare(self, number: int, maps: Maps, row: np.ndarray) -> None:
        self._table.write(str(number), {LAYER: torch.from_numpy(row).T[None, :, None]})

    def read(self, number: int, layers: tuple[str, ...], steps: tuple[int, ...]) -> Maps:
        room, timesteps = self._rooms[layers, steps]
        self._store.read(str(number), layers, timesteps, out=room)
        return self._rows[layers, steps]

    def keypoints(self, number: int) -> np.ndarray:
        self._table.read(str(number), out=self._row)
        return self._table_row


class Zarr:
    """Stock zarr-python, or its pipeline zarrs, on a store of its own of the same layout."""

    def __init__(self, folder: Path, images: int, *, pipeline: str) -> None:
        self.folder, self.name, self._pipeline = folder, pipeline, pipeline
        with self._configured():
            group = zarr.create_group(folder / "Z.zarr", zarr_format=3)
            self._arrays = {
                layer.name: group.create_array(
                    layer.name, shape=(images, *shape(layer)), chunks=(1, 1, *shape(layer)[1:]),
                    shards=(1, *shape(layer)), dtype=np.float16, compressors=None, filters=None,
                    chunk_key_encoding={"name": "default", "separator": "."}, config={"write_empty_chunks": True},
                )
                for layer in LAYERS
            }  # fmt: skip

    def _configured(self) -> "zarr.core.config.ConfigSet":
        paths = {"zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs": "zarrs.ZarrsCodecPipeline"}
        return zarr.config.set({"codec_pipeline.path": paths[self._pipeline]})

    def write(self, number: int, maps: Maps) -> None:
        for name, values in maps.items():
            self._arrays[name][number : number + 1] = values[None]
        sync(self.folder)

    def prepare(self, number: int, maps: Maps, row: np.ndarray) -> None:
        pass

    def read(self, number: int, layers: tuple[str, ...], steps: tuple[int, ...]) -> Maps:
        chosen = slice(steps[0], steps[-1] + 1)
        return {name: np.asarray(self._arrays[name][number : number + 1, chosen])[0] for name in layers}


class Hdf5:
    """h5py, a file an image, a chunk a timestep."""

    name = "h5py"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, number: int, maps: Maps) -> None:
        with h5py.File(self.folder / f"{number}.h5", "w") as file:
            for name, values in maps.items():
                file.create_dataset(name, data=values, chunks=(1, *values.shape[1:]))
        sync(self.folder)

    def prepare(self, number: int, maps: Maps, row: np.ndarray) -> None:
        pass

    def read(self, number: int, layers: tuple[str, ...], steps: tuple[int, ...]) -> Maps:
        with h5py.File(self.folder / f"{number}.h5", "r") as file:
            return {name: file[name][steps[0] : steps[-1] + 1] for name in layers}


class Pickle:
    """torch.save and torch.load, a file an image, as most of the field does."""

    name = "torch.load"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, number: int, maps: Maps) -> None:
        torch.save({name: torch.from_numpy(values) for name, values in maps.items()}, self.folder / f"{number}.pt")
        sync(self.folder)

    def prepare(self, number: int, maps: Maps, row: np.ndarray) -> None:
        pass

    def read(self, number: int, layers: tuple[str, ...], steps: tuple[int, ...]) -> Maps:
        held = torch.load(self.folder / f"{number}.pt", weights_only=True)
        return {name: held[name].numpy()[steps[0] : steps[-1] + 1] for name in layers}


def sync(folder: Path) -> None:
    """Brings every file of a folder onto the disk; `drop` takes them out of memory too."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fdatasync(descriptor)
            os.close(descriptor)


def drop(folder: Path) -> None:
    """Takes maps out of memory, but not a ledger, which every read looks at."""
    sync(folder)
    for path in folder.rglob("*"):
        if path.is_file() and path.parent.name != "ledger":
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def seconds(call: Callable[[], object], *, calls: int = 1) -> tuple[float, float]:
    """Wall and processor seconds a call."""
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls, (time.process_time() - cpu) / calls


Backend = Floor | Matchkit | Zarr | Hdf5 | Pickle
Times = dict[tuple[str, str], list[tuple[float, float]]]
"""Wall and processor seconds of every run, by (backend, measure)."""


def backends(folder: Path, images: int) -> list[Backend]:
    folders = {name: folder / name for name in ("floor", "ours", "zarr", "zarrs", "h5", "pt")}
    for path in folders.values():
        path.mkdir()
    found: list[Backend] = [Floor(folders["floor"]), Matchkit(folders["ours"], images)]
    found.append(Zarr(folders["zarr"], images, pipeline="zarr"))
    if importlib.util.find_spec("zarrs"):
        found.append(Zarr(folders["zarrs"], images, pipeline="zarrs"))
    return [*found, Hdf5(folders["h5"]), Pickle(folders["pt"])]


def typical(times: Times, backend: Backend, measure: str) -> tuple[float, float]:
    """The best run; of cold reads the median one: a disk has moods, and its best is what another layer remembered."""
    runs = sorted(times.get((backend.name, measure), [(np.nan, 0.0)]))
    return runs[len(runs) // 2] if measure.endswith("cold") else runs[0]


def measure_warm(times: Times, backend: Backend, number: int) -> None:
    for name, read in reads(backend, number).items():
        read()
        times[backend.name, f"{name} warm"].append(seconds(read, calls=5 if name == "image" else 50))


def measure_cold(times: Times, backend: Backend, number: int) -> None:
    for name, read in reads(backend, number).items():
        drop(backend.folder.parent)
        times[backend.name, f"{name} cold"].append(seconds(read))


def reads(backend: Backend, number: int) -> dict[str, Callable[[], object]]:
    """What is read of an image, by the pattern's name."""
    patterns: dict[str, Callable[[], object]] = {
        name: partial(backend.read, number, *pattern) for name, pattern in PATTERNS.items()
    }
    if isinstance(backend, (Floor, Matchkit)):
        patterns["keypoints"] = partial(backend.keypoints, number)
    return patterns


def show(times: Times, all_backends: list[Backend]) -> None:
    size = sum(np.prod(shape(layer)) * 2 for layer in LAYERS)
    floor = all_backends[0]
    measures = [f"{pattern} {state}" for state in ("warm", "cold") for pattern in (*PATTERNS, "keypoints")]
    click.echo(f"{'ms (times the floor)':22}" + "".join(f"{name:>19}" for name in ["write image", *measures]))
    for backend in all_backends:
        cells = []
        for name in ["write", *measures]:
            wall = typical(times, backend, name)[0]
            ratio = typical(times, floor, name)[0] / wall
            cells.append(f"{1e3 * wall:10.3f} ({ratio:4.2f}x)" if wall == wall else " " * 18)
        click.echo(f"{backend.name:22}" + "".join(f"{cell:>19}" for cell in cells))
    for backend in all_backends:
        cpu = typical(times, backend, "image warm")[1] / size * 1e9
        over = 1e6 * (typical(times, backend, "chunk warm")[0] - typical(times, floor, "chunk warm")[0])
        written = typical(times, backend, "write")[1] / size * 1e9
        click.echo(
            f"{backend.name:22} reads with {cpu:.2f} CPU s/GB, writes with {written:.2f}; "
            f"a chunk {over:+.0f} us over pread"
        )


@click.command()
@click.option("--images", default=3, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write (3 GB). [default: a temporary folder]")
def main(images: int, rounds: int, folder: Path | None) -> None:
    generator = np.random.default_rng(0)
    maps = {layer.name: generator.standard_normal(shape(layer), np.float32).astype(np.float16) for layer in LAYERS}
    row = generator.standard_normal((20, TABLE.layers[0].channels), np.float32).astype(np.float16)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        all_backends = backends(Path(scratch), images)
        times: Times = defaultdict(list)
        for number in range(images):
            for backend in all_backends:
                times[backend.name, "write"].append(seconds(partial(backend.write, number, maps)))
                backend.prepare(number, maps, row)
                drop(backend.folder)  # whoever writes next shall find free memory too
        for backend in all_backends:
            read = backend.read(images - 1, *PATTERNS["three"])
            assert all(np.array_equal(read[name][0], maps[name][PATTERNS["three"][1][0]]) for name in read)
        for round_ in range(rounds):
            for backend in all_backends:
                measure_warm(times, backend, round_ % images)
            for turn in range(COLD):
                for backend in all_backends[:: -1 if turn % 2 else 1]:
                    measure_cold(times, backend, (round_ + turn) % images)
        show(times, all_backends)
        started = seconds(lambda: FeatureStore.open(Path(scratch) / "ours/F.zarr"), calls=20)[0]
        click.echo(f"matchkit opens the 12 arrays in {1e3 * started:.2f} ms")
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()

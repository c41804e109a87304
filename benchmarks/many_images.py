"""A store of 100,000 images: what its ledger costs to write, to open and to ask.

    PYTHONSAFEPATH=1 python benchmarks/many_images.py [--images 100000] [--folder /dev/shm]

The maps are tiny and the code is the real one. In memory (/dev/shm) a sync costs nothing: seconds there are those of
the processor, and a disk adds the time of its syncs (three an image here). Memory is that of the whole process.
"""

import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch

from matchkit.cache.journal import Entry
from matchkit.cache.ledger import Ledger
from matchkit.cache.places.local import LocalPlace
from matchkit.cache.store import FeatureStore
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 4, (1, 1)), LayerSpec("up1.0", 4, (1, 1)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (0,), (16, 16), "stretch", "fp16")
TOLD = (0.1, 0.5, 1.0)
"""After which parts of the images memory is told."""


def resident() -> float:
    """Megabytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def seconds(call: Callable[[], object], *, runs: int = 1) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def ledger_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path / "ledger").rglob("*") if file.is_file())


def maps_of(number: int) -> dict[str, torch.Tensor]:
    return {layer.name: torch.full((1, 4, 1, 1), number % 2048, dtype=torch.float16) for layer in LAYERS}


def tell(path: Path, ids: list[str], what: str) -> None:
    """How long it takes to open the store and to ask it for all images."""
    store = FeatureStore.open(path)
    opening = seconds(lambda: FeatureStore.open(path), runs=5)
    asking = seconds(lambda: store.missing(ids), runs=5)
    wrong = sum(not (store.read(ids[n])["up1.0"] == n % 2048).all() for n in range(0, len(ids), 997))
    files = sum(1 for _ in path.rglob("*"))
    click.echo(
        f"{what}: open {opening:.3f} s, missing of all {asking:.3f} s, "
        f"ledger {ledger_bytes(path) / 1e6:.2f} MB, {files:,} files, {wrong} wrong"
    )


def tell_ledger(root: Path, images: int, chunks: int) -> None:
    """The ledger alone of a store with as many chunks an image as Stable Diffusion 1.5 gives."""
    ledger, checksums = Ledger(LocalPlace(root), chunks=chunks), tuple(range(1 << 31, (1 << 31) + chunks))
    for row in range(images):
        ledger.record(f"category/image_{row:06d}", Entry(row, 1, complete=True, checksums=checksums))
    opening = seconds(lambda: Ledger(LocalPlace(root), chunks=chunks), runs=5)
    ledger.fold(rows=images)
    folded = seconds(lambda: Ledger(LocalPlace(root), chunks=chunks), runs=5)
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) / 1e6
    click.echo(f"a ledger of {chunks} chunks an image: {size:.0f} MB, open {opening:.3f} s, folded {folded:.3f} s")


@click.command()
@click.option("--images", default=100_000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/dev/shm"), show_default=True)
def main(images: int, folder: Path) -> None:
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="matchkit-many-", dir=folder))
    path, ids = root / "F.zarr", [f"category/image_{number:06d}" for number in range(images)]
    store = FeatureStore.create(path, SPEC, ids)
    click.echo(f"{images:,} images in {folder}; {resident():.0f} MB of memory when the store is laid out")
    start, told = time.perf_counter(), [int(part * images) for part in TOLD]
    for number, image_id in enumerate(ids):
        store.write(image_id, maps_of(number))
        if number + 1 in told:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
            click.echo(
                f"{number + 1:7,} images after {time.perf_counter() - start:5.0f} s: "
                f"{resident():.0f} MB of memory, {peak:.0f} at most"
            )
    tell(path, ids, "as the writer leaves it")
    click.echo(f"finalize {seconds(store.finalize):.2f} s, again {seconds(store.finalize):.2f} s")
    tell(path, ids, "finalized")
    store.close()
    tell_ledger(root / "ledger of a full spec", images, 12 * 11)
    shutil.rmtree(root)


if __name__ == "__main__":
    main()

"""Matching beside the published ways and the floor, in one run: one pair with `nearest`, and SPair's test list.

    PYTHONSAFEPATH=1 python benchmarks/match.py [--threads 1] [--pairs 12000]

One pair: the published way (Diffusion Hyperfeatures) resizes all channels of both descriptor maps to the input's pixels
and normalises them for every pair. The floor counts the bytes that must at least move (the target's map read once, the
similarity maps written and read once) at the rate at which this machine copies memory.

The list: as many pairs as SPair's test split has, 8 keypoints each, matched by `window-soft-argmax` from stored
descriptors of 768 x 60 x 60, by the code of `matchkit match`, in a process of its own. The published way (Telling Left
from Right) describes both images anew for every pair, compares all cells with all, takes the soft-argmax of all 3,600
rows, and reads eight. It is timed on three pairs, whose points are compared with the list's. It runs this package's own
post-processor and soft-argmax, and its reading of 26 MB of features an image is not counted. Random maps stand for
features, for no time depends on their values; a target's are its source's, moved and with noise, so that there are
peaks. Images in none of the timed pairs are those that are, rolled. The floor reads the target's map once and
multiplies it with the keypoints' descriptors, at the fastest copy and the fastest product of matrices of this run.
"""

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from multiprocessing.pool import Pool
from pathlib import Path

import click
import numpy as np
import torch
from torch.nn import functional

from matchkit.cache.pairs import MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.geometry import Points
from matchkit.core.records import ImageRecord, Pair
from matchkit.core.similarity import soft_argmax, windowed
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.evaluate.matchers import Nearest, NearestParams
from matchkit.evaluate.on_cells import WindowSoftArgmax, WindowSoftArgmaxParams
from matchkit.heads.identity import RawLayer, RawLayerParams
from matchkit.heads.post_processor import PostProcessorNetwork
from matchkit.pipelines.match import predict

SETTINGS = {"toy": (128, 16, 8), "published": (384, 64, 8)}
"""Descriptor width, side of the grid in cells, and how many times finer the search is."""
KEYPOINTS = 8
CATEGORIES, IMAGES = 18, 27
"""Of the list: images in each category; SPair's test split has about 480 in all."""
LAYERS = ((640, 60), (1280, 30), (1280, 15), (768, 60))
"""Channels and side in cells of the maps that a post-processor is given. Source: GeoAware-SC §1."""
WIDTH, SIDE, INPUT = 768, 60, 840
"""Of a descriptor map: channels and cells; and pixels of the canvas."""
TIMED = ((0, 1), (2, 3), (4, 5))
"""Images of the first category whose pairs are matched the published way."""
SPEC = FeatureSpec(
    "geoaware", "random", (LayerSpec("descriptor", WIDTH, (SIDE, SIDE)),), (0,), (INPUT, INPUT), "stretch", "fp16"
)
LIMIT = 400_000_000
"""Bytes of descriptors, and as many of stored maps, that are held: a category's images have 299 MB."""


def resized(source: torch.Tensor, target: torch.Tensor, points: np.ndarray, factor: int) -> np.ndarray:
    """Every channel at the input's resolution, every pixel normalised."""
    side = target.shape[1] * factor
    both = functional.interpolate(torch.stack([source, target]), size=(side, side), mode="bilinear")
    rows = functional.normalize(both.flatten(2), dim=1)
    x, y = np.rint((points + 0.5) * factor - 0.5).astype(np.int64).T
    best = (rows[0][:, y * side + x].T @ rows[1]).argmax(dim=1).numpy()
    return (np.stack([best % side, best // side], axis=1) + 0.5) / factor - 0.5


def timed(call: Callable[[], object], *, runs: int) -> list[float]:
    """The seconds of some runs after a first one."""
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def seconds(call: Callable[[], object], *, runs: int) -> float:
    """The median over some runs after a first one."""
    return statistics.median(timed(call, runs=runs))


def copy_rate() -> float:
    """Bytes a second of a copy in memory at its fastest, read and written counted once each."""
    block = torch.zeros(64 << 20, dtype=torch.uint8)
    other = torch.empty_like(block)
    return 2 * block.nbytes / min(timed(lambda: other.copy_(block), runs=15))


def product_rate() -> float:
    """Floating-point operations a second of a product of matrices at its fastest."""
    matrix = torch.rand(1536, 1536)
    return 2 * 1536**3 / min(timed(lambda: matrix @ matrix, runs=9))


def one_pair(rate: float) -> None:
    """Prints the comparison with the published way of Diffusion Hyperfeatures."""
    for name, (width, side, factor) in SETTINGS.items():
        generator = torch.Generator().manual_seed(0)
        source, target = torch.rand(2, width, side, side, generator=generator)
        points = np.random.default_rng(0).uniform(0, side - 1, (KEYPOINTS, 2)).astype(np.float32)
        nearest = Nearest(NearestParams(upsample=factor))
        old = seconds(partial(resized, source, target, points, factor), runs=5)
        new = seconds(partial(nearest.match, source, target, points), runs=15)
        floor = (target.nbytes + 2 * 4 * KEYPOINTS * (side * factor) ** 2) / rate
        click.echo(
            f"{name:10} {width} x {side} x {side}, {factor} times finer: published {1e3 * old:8.1f} ms, "
            f"nearest {1e3 * new:6.2f} ms ({old / new:.0f} times faster), floor {1e3 * floor:5.2f} ms"
        )


def image_id(category: int, number: int) -> str:
    return f"{category}/{number}"


def listed(count: int) -> list[Pair]:
    """So many pairs within categories, those of `TIMED` first."""
    generator, pairs = np.random.default_rng(0), []
    ids = tuple(map(str, range(KEYPOINTS)))
    for category in range(CATEGORIES):
        every = list(permutations(range(IMAGES), 2))
        mixed = [every[index] for index in generator.permutation(len(every))]
        wanted = count * (category + 1) // CATEGORIES - count * category // CATEGORIES
        for source, target in sorted(mixed, key=lambda pair: pair not in TIMED)[:wanted]:
            points = generator.uniform(0, INPUT - 1, (2, KEYPOINTS, 2)).astype(np.float32)
            names = image_id(category, source), image_id(category, target)
            pairs.append(Pair("-".join(names), *names, str(category), points[0], points[1], ids))
    return pairs


Maps = Sequence[torch.Tensor]


def pair_maps(number: int) -> tuple[Maps, Maps]:
    """The maps (1,1,c,g,g) of a timed pair, channels last: of the source, and moved by one of the coarsest cells."""
    draw = torch.Generator().manual_seed(number)
    source = [torch.randn(1, 1, side, side, channels, generator=draw) for channels, side in LAYERS]
    moved = [maps.roll((maps.shape[2] // 15,) * 2, (2, 3)) for maps in source]
    target = [maps + 0.3 * torch.randn(maps.shape, generator=draw) for maps in moved]
    return [maps.movedim(-1, 2) for maps in source], [maps.movedim(-1, 2) for maps in target]


@torch.inference_mode()
def every_row(network: PostProcessorNetwork, source: Maps, target: Maps, points: Points) -> Points:
    """A pair the published way of Telling Left from Right; points in pixels of the canvas."""
    rows = [network(maps, (SIDE, SIDE))[0].flatten(1).T for maps in (source, target)]
    first, second = (row / (row.norm(dim=1, keepdim=True) + 1e-10) for row in rows)
    every = soft_argmax(windowed((first @ second.T).unflatten(1, (SIDE, SIDE)), 7, 0.0), 0.02)
    x, y = np.floor(points * SIDE / INPUT).astype(np.int64).T
    return (every[SIDE * y + x].numpy() + 0.5) * (INPUT / SIDE)


def fill(store: FeatureStore, described: Sequence[torch.Tensor]) -> None:
    """Keeps the descriptors of the timed pairs' images, and for the other images the same ones rolled."""
    for number, name in enumerate(store.missing(image_id(c, n) for c in range(CATEGORIES) for n in range(IMAGES))):
        kept, turns = described[number % len(described)], number // len(described)
        rolled = kept.roll((turns // 9, turns % 9), (0, 1)) if turns else kept
        store.write(name, {"descriptor": rolled.movedim(-1, 0)[None]})
    store.finalize()


@dataclass(frozen=True)
class Took:
    """Seconds of the clock and of the processor, the most bytes a process ever had in memory, and what was found."""

    clock: float
    processor: float
    peak: int
    found: dict[str, Points]


def match_list(where: Path, count: int, threads: int) -> Took:
    """The list as `matchkit match` does it."""
    torch.set_num_threads(threads)
    pairs, size = listed(count), (INPUT, INPUT)
    images = {name: ImageRecord(name, Path(name), size) for pair in pairs for name in (pair.source, pair.target)}
    with FeatureStore.open(where) as store:
        clock, processor = time.perf_counter(), time.process_time()
        head = RawLayer(RawLayerParams(), spec=store.spec)
        maps = MapCache(store, layers=head.layers, timesteps=head.timesteps, limit=LIMIT)
        matcher = WindowSoftArgmax(WindowSoftArgmaxParams())
        found = predict(pairs, images, head, maps, matcher, limit=LIMIT, points="patch")
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Took(clock, processor, peak, found)


def whole_list(folder: Path, count: int, threads: int, rates: tuple[float, float], process: Pool) -> None:
    """Prints the comparison with the published way of Telling Left from Right; `process` is a fresh one."""
    torch.manual_seed(0)
    network = PostProcessorNetwork([channels for channels, _ in LAYERS], projection=WIDTH).eval()
    pairs = {pair.id: pair for pair in listed(count)}
    described, describing, clocks, processors, old = [], [], [], [], {}
    for number, names in enumerate(TIMED):
        pair = pairs["-".join(image_id(0, name) for name in names)]
        both = pair_maps(number)
        for maps in both:
            start = time.perf_counter()
            with torch.inference_mode():
                described.append(network(maps, (SIDE, SIDE))[0].movedim(0, -1).half().contiguous())
            describing.append(time.perf_counter() - start)
        start, processor = time.perf_counter(), time.process_time()
        old[pair.id] = every_row(network, *both, pair.source_points)
        clocks.append(time.perf_counter() - start)
        processors.append(time.process_time() - processor)
    where = folder / "descriptors.zarr"
    with FeatureStore.create(where, SPEC, [image_id(c, n) for c in range(CATEGORIES) for n in range(IMAGES)]) as store:
        fill(store, described)
    new = process.apply(match_list, (where, count, threads))
    apart = max(float(np.abs(points - new.found[name]).max()) for name, points in old.items())
    report(new, count, (clocks, processors, describing), rates, apart)


def report(new: Took, count: int, times: tuple[Sequence[float], ...], rates: tuple[float, float], apart: float) -> None:
    clock, processor, describing = map(statistics.median, times)
    scratch = new.clock + CATEGORIES * IMAGES * describing
    floor = 4 * WIDTH * SIDE**2 / rates[0] + 2 * KEYPOINTS * WIDTH * SIDE**2 / rates[1]
    click.echo(
        f"{count:,} pairs of {CATEGORIES * IMAGES} images, {WIDTH} x {SIDE} x {SIDE}\n"
        f"  published, {len(TIMED)} pairs     {clock:8.3f} s a pair ({processor:.3f} of the processor), "
        f"{1 / clock:7.2f} pairs/s, all {count * clock / 3600:.1f} hours\n"
        f"  from stored descriptors {1e3 * new.clock / count:6.2f} ms a pair ({1e3 * new.processor / count:.2f} of the "
        f"processor), {count / new.clock:7.1f} pairs/s, all {new.clock:.1f} s\n"
        f"  {count * clock / new.clock:.0f} times faster by the clock, {count * processor / new.processor:.0f} by the "
        f"processor; {new.peak / 1e9:.2f} GB of memory at most; points within {apart:.4f} pixels\n"
        f"  describing an image takes {describing:.3f} s, all once and then matching {scratch:.0f} s: "
        f"{count * clock / scratch:.0f} times faster\n"
        f"  floor {1e3 * floor:.2f} ms a pair, of which this takes {new.clock / count / floor:.1f} times as long"
    )


def compare(folder: Path, pairs: int, threads: int, process: Pool) -> None:
    rates = copy_rate(), product_rate()
    click.echo(
        f"{threads} thread(s), memory copied at {rates[0] / 1e9:.1f} GB/s, matrices multiplied at "
        f"{rates[1] / 1e9:.0f} GFLOP/s, {KEYPOINTS} keypoints a pair"
    )
    one_pair(rates[0])
    whole_list(folder, pairs, threads, rates, process)


@click.command()
@click.option("--threads", default=1, show_default=True)
@click.option(
    "--pairs", type=click.IntRange(100, CATEGORIES * IMAGES * (IMAGES - 1)), default=12_000, show_default=True
)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="On a disk (2.7 GB), not in memory. [default: a temporary one]"
)
def main(threads: int, pairs: int, folder: Path | None) -> None:
    # before this process grows, whose greatest size counts as that of those it starts
    with multiprocessing.get_context("spawn").Pool(1) as process, tempfile.TemporaryDirectory(dir=folder) as scratch:
        torch.set_num_threads(threads)
        compare(Path(scratch), pairs, threads, process)


if __name__ == "__main__":
    main()

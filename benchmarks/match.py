"""Matching one pair: the published way, `nearest`, and the floor, side by side in one run.

    PYTHONSAFEPATH=1 python benchmarks/match.py [--threads 1]

The published way (Diffusion Hyperfeatures) resizes all channels of both descriptor maps to the input's pixels and
normalises them for every pair. The floor counts the bytes that must at least move (the target's map read once, the
similarity maps written and read once) at the rate at which this machine copies memory.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import click
import numpy as np
import torch
from torch.nn import functional

from matchkit.evaluate.matchers import Nearest, NearestParams

SETTINGS = {"toy": (128, 16, 8), "published": (384, 64, 8)}
"""Descriptor width, side of the grid in cells, and how many times finer the search is."""
KEYPOINTS = 8


def published(source: torch.Tensor, target: torch.Tensor, points: np.ndarray, factor: int) -> np.ndarray:
    """Every channel at the input's resolution, every pixel normalised."""
    side = target.shape[1] * factor
    both = functional.interpolate(torch.stack([source, target]), size=(side, side), mode="bilinear")
    rows = functional.normalize(both.flatten(2), dim=1)
    x, y = np.rint((points + 0.5) * factor - 0.5).astype(np.int64).T
    best = (rows[0][:, y * side + x].T @ rows[1]).argmax(dim=1).numpy()
    return (np.stack([best % side, best // side], axis=1) + 0.5) / factor - 0.5


def seconds(call: Callable[[], object], *, runs: int) -> float:
    """The median over some runs after a first one."""
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def copy_rate() -> float:
    """Bytes a second of a copy in memory, read and written counted once each."""
    block = torch.zeros(64 << 20, dtype=torch.uint8)
    other = torch.empty_like(block)
    return 2 * block.nbytes / seconds(lambda: other.copy_(block), runs=7)


@click.command()
@click.option("--threads", default=1, show_default=True)
def main(threads: int) -> None:
    torch.set_num_threads(threads)
    rate = copy_rate()
    click.echo(f"{threads} thread(s), memory copied at {rate / 1e9:.1f} GB/s, {KEYPOINTS} keypoints a pair")
    for name, (width, side, factor) in SETTINGS.items():
        generator = torch.Generator().manual_seed(0)
        source, target = torch.rand(2, width, side, side, generator=generator)
        points = np.random.default_rng(0).uniform(0, side - 1, (KEYPOINTS, 2)).astype(np.float32)
        nearest = Nearest(NearestParams(upsample=factor))
        old = seconds(partial(published, source, target, points, factor), runs=5)
        new = seconds(partial(nearest.match, source, target, points), runs=15)
        floor = (target.nbytes + 2 * 4 * KEYPOINTS * (side * factor) ** 2) / rate
        click.echo(
            f"{name:10} {width} x {side} x {side}, {factor} times finer: published {1e3 * old:8.1f} ms, "
            f"nearest {1e3 * new:6.2f} ms ({old / new:.0f} times faster), floor {1e3 * floor:5.2f} ms"
        )


if __name__ == "__main__":
    main()

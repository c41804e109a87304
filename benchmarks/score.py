"""A test list of SPair's size under every protocol, from points in memory, beside the floor.

    PYTHONSAFEPATH=1 python benchmarks/score.py [--draws 1000]

12,234 pairs of 18 categories with 27 images each, 8 keypoints a pair, made up here: no time depends on what they show.
`convert` is the code of `matchkit evaluate --protocol all` after files are read. The way beside it scores one protocol
after another by `score`, each with its report and its own draws.

The floor counts what cannot be left out however it is written: points, predictions and annotations are read once, and
of every draw each pair has a weight, the product of two numbers which are looked up, that multiplies one column for
each threshold that has an interval and one for the whole. Bytes are counted at the rate at which this machine copies
memory, and the products at the one at which it multiplies matrices of float64. That images must be drawn, that pairs
are objects of Python, and that verdicts must be summed by pair is above the floor.
"""

import os
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import click
import numpy as np

from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.conversion import Conversion, convert
from matchkit.evaluate.pck import score
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.protocols import PRESETS, build_protocol

PAIRS, CATEGORIES, IMAGES, KEYPOINTS = 12_234, 18, 27, 8
SIZES = ((500, 375), (375, 500), (500, 333), (640, 480))
VALUES_A_KEYPOINT, VALUES_A_PAIR = 4, 8
"""Read once: where it is and was found; boxes' and images' sizes, the pair's own and its images' rows."""
Floor = tuple[float, float, float]


def annotated() -> tuple[list[Pair], dict[str, ImageRecord], Predictions]:
    """Pairs, images and predictions whose errors are some pixels."""
    generator = np.random.default_rng(0)
    images: dict[str, ImageRecord] = {}
    pairs: list[Pair] = []
    found = {}
    for category in range(CATEGORIES):
        names = [f"{category:02d}/{n:03d}" for n in range(IMAGES)]
        images |= {name: ImageRecord(name, Path("x.jpg"), SIZES[n % 4], names[0][:2]) for n, name in enumerate(names)}
        ends = list(permutations(names, 2))[: -(-PAIRS // CATEGORIES)]
        for source, target in ends:
            points = generator.uniform(0, 300, (KEYPOINTS, 2)).astype(np.float32)
            box = (*points.min(axis=0).tolist(), *(points.max(axis=0) + 20).tolist())
            name = f"{len(pairs):06d}-{source}-{target}"
            ids = tuple(map(str, range(KEYPOINTS)))
            turn = {"viewpoint_variation": len(pairs) % 3}
            pairs.append(Pair(name, source, target, names[0][:2], points, points, ids, box, box, turn))
            found[name] = points + generator.normal(0, 20, points.shape).astype(np.float32)
    return pairs[:PAIRS], images, Predictions(found, {})


def seconds(call: Callable[[], object], *, runs: int = 1) -> float:
    """The least of some runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def rates() -> tuple[float, float]:
    """Bytes copied and operations of a product of float64 matrices, a second."""
    memory, into = np.ones(1 << 24), np.ones(1 << 24)
    one = np.ones((1500, 1500))
    copied = 2 * memory.nbytes / seconds(lambda: np.copyto(into, memory), runs=5)
    return copied, 2 * 1500**3 / seconds(lambda: one @ one, runs=5)


def floor(conversion: Conversion, draws: int) -> Floor:
    """Seconds in all, of bytes, and of products."""
    copied, multiplied = rates()
    drawn = [row for row in conversion.rows if row.intervals]
    # the whole is counted once for all rows of the same pairs and average
    columns = sum(row.counts["pairs"] * len(row.intervals) for row in drawn)
    columns += sum(pairs for _, pairs in {(row.protocol.average, row.counts["pairs"]) for row in drawn})
    size = 8 * (PAIRS * KEYPOINTS * VALUES_A_KEYPOINT + PAIRS * VALUES_A_PAIR)
    # both looked-up numbers are read and their product is written, once for all that is drawn of the same pairs
    weights = 3 * 8 * draws * sum({row.counts["pairs"] for row in drawn})
    of_bytes, of_products = (size + weights) / copied, 2 * draws * columns / multiplied
    return of_bytes + of_products, of_bytes, of_products


@click.command()
@click.option("--draws", default=1000, show_default=True, help="Of the images, for the intervals.")
def main(draws: int) -> None:
    """Print the seconds of both ways and of the floor, and the table."""
    pairs, images, predictions = annotated()
    protocols = [build_protocol(PRESETS.params(name) | {"resamples": draws}, where=name) for name in PRESETS.table()]
    plain = [EvalProtocol(resamples=draws)]
    conversion = convert(pairs, images, predictions, protocols)
    together = seconds(lambda: convert(pairs, images, predictions, protocols), runs=3)
    single = seconds(lambda: convert(pairs, images, predictions, plain), runs=3)
    alone = seconds(lambda: [score(pairs, images, predictions, protocol) for protocol in protocols])
    least, of_bytes, of_products = floor(conversion, draws)
    click.echo(conversion.table())
    click.echo(
        f"\n{os.cpu_count()} cores, {len(pairs):,} pairs of {len(images)} images, {KEYPOINTS} keypoints a pair, "
        f"{draws:,} draws\n"
        f"  {len(protocols)} protocols together     {together:6.2f} s\n"
        f"  one of them               {single:6.2f} s\n"
        f"  one report after another  {alone:6.2f} s, {alone / together:.1f} times as long\n"
        f"  floor                     {least:6.2f} s, of bytes {of_bytes:.2f} and of products {of_products:.2f}"
    )


if __name__ == "__main__":
    main()

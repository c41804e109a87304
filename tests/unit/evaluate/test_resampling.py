"""Intervals by resampling, beside a plain computation of the same."""

import subprocess
import sys

import numpy as np

from matchkit.core.records import Pair
from matchkit.evaluate.resampling import share_intervals


def pair(source: str, target: str) -> Pair:
    nothing = np.zeros((0, 2), np.float32)
    return Pair(f"{source}-{target}", source, target, "", nothing, nothing, ())


def test_blocks_of_resamplings_give_what_all_at_once_give() -> None:
    """Written down plainly: every image's draws, the product for each pair, and the quantiles of the shares."""
    generator = np.random.default_rng(3)
    ends = generator.integers(0, 20, (60, 2))
    counts = generator.integers(1, 9, 60)
    won = generator.integers(0, counts[:, None] + 1, (60, 3))
    found = share_intervals(won, counts, [pair(f"{a:02}", f"{b:02}") for a, b in ends], resamples=230)
    images, rows = np.unique(ends, return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(images), [1 / len(images)] * len(images), size=230)
    weights = np.prod(drawn[:, rows.reshape(-1, 2)], axis=2)
    shares = 100 * (weights @ won) / (weights @ counts)[:, None]
    np.testing.assert_allclose(found, np.quantile(shares, [0.025, 0.975], axis=0).T, rtol=1e-12)


def test_a_single_pair_says_nothing() -> None:
    found = share_intervals(np.array([[1, 2]]), np.array([3]), [pair("a", "b")], lowest=-100.0)
    assert found.tolist() == [[-100.0, 100.0]] * 2


def test_scoring_needs_numpy_alone() -> None:
    code = "import sys, matchkit.evaluate.pck; print([name for name in ('scipy', 'torch') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"

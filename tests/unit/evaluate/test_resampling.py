"""Intervals by resampling: their form, their groups, and what says nothing."""

import subprocess
import sys

import numpy as np
import pytest

from matchkit.core.records import Pair
from matchkit.evaluate.resampling import Group, group_intervals, grouped, share_intervals


def pair(source: str, target: str, category: str = "") -> Pair:
    nothing = np.zeros((0, 2), np.float32)
    return Pair(f"{source}-{target}", source, target, category, nothing, nothing, ())


def every(images: int, category: str = "cat") -> list[Pair]:
    ends = [(s, t) for s in range(images) for t in range(images) if s != t]
    return [pair(f"{category}{s:02}", f"{category}{t:02}", category) for s, t in ends]


def verdicts(pairs: int, columns: int = 2) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    counts = generator.integers(1, 9, pairs)
    return generator.integers(0, counts[:, None] + 1, (pairs, columns)), counts


def test_the_form_is_that_of_the_images_drawn() -> None:
    """A few images hold all that is won: the interval of a share reaches further up than down, and never below 0."""
    pairs = every(20)
    won = np.array([[4 * (told.target in ("cat00", "cat01"))] for told in pairs])
    low, high = share_intervals(won, np.full(len(pairs), 4), pairs)[0]
    assert 0 < low < 10 < high < 100
    assert high - 10 > 1.5 * (10 - low)


def test_pairs_that_share_nothing_have_the_interval_of_student() -> None:
    """100 pairs, a half of them won: 1.98 times 50 / sqrt(99) on either side, on the scale of the odds a bit less."""
    pairs = [pair(f"s{n}", f"t{n}") for n in range(100)]
    low, high = share_intervals(np.arange(100)[:, None] % 2 * 3, np.full(100, 3), pairs, resamples=8000)[0]
    assert high - low == pytest.approx(2 * 1.98 * 50 / 99**0.5, rel=0.05)
    assert (low + high) / 2 == pytest.approx(50, abs=0.5)


def test_categories_are_fixed() -> None:
    """Of one category all is won, of the other nothing: other images of both would say the same."""
    pairs = every(8, "cat") + every(8, "dog")
    won = np.array([[told.category == "cat"] for told in pairs]).astype(int)
    np.testing.assert_allclose(share_intervals(won, np.ones(len(pairs), int), pairs), [[50, 50]])
    one = [pair(told.source, told.target, "animal") for told in pairs]
    low, high = share_intervals(won, np.ones(len(pairs), int), one)[0]
    assert low < 30 < 70 < high


def test_categories_of_few_images_are_one() -> None:
    pairs = [told for n in range(12) for told in every(3, f"kind{n:02}")]
    won = np.array([[n // 6 % 2] for n in range(len(pairs))])
    low, high = share_intervals(won, np.ones(len(pairs), int), pairs)[0]
    assert low < 40 < 60 < high


def test_a_column_has_its_interval_whatever_stands_beside_it() -> None:
    pairs = every(9)
    won, counts = verdicts(len(pairs), 3)
    together = share_intervals(won, counts, pairs, resamples=230)
    assert together.shape == (3, 2)
    for column, found in enumerate(together):
        alone = share_intervals(won[:, [column]], counts, pairs, resamples=230)
        np.testing.assert_allclose(alone, [found], rtol=1e-9)


def test_all_pairs_as_one_group_among_others() -> None:
    pairs = every(9, "cat") + every(8, "dog")
    won, counts = verdicts(len(pairs))
    cats = np.flatnonzero([told.category == "cat" for told in pairs])
    groups = {"all": Group(np.arange(len(pairs)), won, counts), "cat": Group(cats, won[cats], counts[cats])}
    found = group_intervals(groups, pairs, resamples=300)
    np.testing.assert_array_equal(found["all"], share_intervals(won, counts, pairs, resamples=300))
    by_themselves = share_intervals(won[cats], counts[cats], [pairs[row] for row in cats], resamples=300)
    np.testing.assert_allclose(found["cat"], by_themselves, atol=4)
    shares = 100 * won[cats].sum(axis=0) / counts[cats].sum()
    assert (found["cat"][:, 0] < shares).all()
    assert (shares < found["cat"][:, 1]).all()


def test_groups_of_keypoints_by_hand() -> None:
    """Three pairs of two, one and three keypoints; the second one has none of the part, and an empty part is none."""
    correct = np.array([[1, 0], [1, 1], [1, 1], [0, 0], [1, 0], [0, 1]], dtype=bool)
    mask = np.array([True, True, False, False, True, True])
    found = grouped(correct, np.array([0, 0, 1, 2, 2, 2]), {"part": mask, "none": np.zeros(6, dtype=bool)})
    assert found.keys() == {"part"}
    part = found["part"]
    assert (part.rows.tolist(), part.won.tolist(), part.counts.tolist()) == ([0, 2], [[2, 1], [1, 1]], [2, 2])
    own = part.a_pair()
    assert (own.won.tolist(), own.counts.tolist()) == ([[1, 0.5], [0.5, 0.5]], [1, 1])


def test_a_single_pair_says_nothing() -> None:
    found = share_intervals(np.array([[1, 2]]), np.array([3]), [pair("a", "b")], lowest=-100.0)
    assert found.tolist() == [[-100.0, 100.0]] * 2
    assert share_intervals(np.array([[3]]), np.array([3]), [pair("a", "a")]).tolist() == [[0.0, 100.0]]


def test_scoring_needs_numpy_alone() -> None:
    code = "import sys, matchkit.evaluate.pck; print([name for name in ('scipy', 'torch') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"

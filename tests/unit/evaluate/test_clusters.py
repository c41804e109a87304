"""Standard errors where pairs share images, beside the sums written out and what is true."""

import numpy as np
import pytest

from matchkit.core.records import Pair
from matchkit.evaluate.clusters import Ends, Sharing


def ends_of(ends: list[tuple[int, int]], categories: list[str] | None = None) -> Ends:
    nothing = np.zeros((0, 2), np.float32)
    named = categories or ["cat"] * len(ends)
    return Ends.of(
        [
            Pair("", f"{s:03}", f"{t:03}", category, nothing, nothing, ())
            for (s, t), category in zip(ends, named, strict=True)
        ]
    )


def every(images: int) -> list[tuple[int, int]]:
    return [(s, t) for s in range(images) for t in range(images) if s != t]


def test_the_variance_is_the_sum_over_pairs_that_share_an_image() -> None:
    """Written out over all two pairs; of eight images that all make pairs 30 of 56 parts remain in the residuals."""
    ends = every(8)
    generator = np.random.default_rng(0)
    won = generator.normal(0, 1, len(ends)) + generator.normal(0, 1, 8)[[t for _, t in ends]]
    residuals = won - won.mean()
    plain = sum(
        residuals[one] * residuals[other]
        for one, first in enumerate(ends)
        for other, second in enumerate(ends)
        if set(first) & set(second)
    )
    found = Sharing(ends_of(ends), np.ones(len(ends))).spread(won[:, None])
    assert found.share[0] == pytest.approx(won.mean())
    assert found.error[0] ** 2 == pytest.approx(plain / (30 / 56) / len(ends) ** 2)
    assert found.freedom[0] == pytest.approx(7)


@pytest.mark.parametrize("design", ["every", "halves", "uneven"])
def test_the_standard_error_is_that_of_other_images(design: str) -> None:
    """The mean variance over 3,000 datasets of images that stray is the variance of their shares."""
    generator = np.random.default_rng(1)
    ends = {
        "every": every(9),
        "halves": [(s, 6 + t) for s in range(6) for t in range(6)],
        "uneven": [(s, t) for s in range(12) for t in range(12) if s != t and s * t < 15],
    }[design]
    source, target = np.array(ends).T
    strays = generator.normal(0, 1, (12, 3000))
    won = strays[source] + strays[target] + 0.3 * generator.normal(0, 1, (len(ends), 3000))
    found = Sharing(ends_of(ends), np.ones(len(ends))).spread(won)
    assert np.mean(found.error**2) == pytest.approx(found.share.var(), rel=0.08)


def test_what_strays_by_pairs_alone_counts_once() -> None:
    """Images without any effect share their pairs for nothing. An image drawn for its pairs would count it twice."""
    generator = np.random.default_rng(3)
    ends = every(16)
    couple = np.unique([sorted(pair) for pair in ends], axis=0, return_inverse=True)[1].ravel()
    found = Sharing(ends_of(ends), np.ones(len(ends))).spread(generator.normal(0, 1, (120, 2000))[couple])
    # not below its mean by luck, so that it is a bit too large
    assert 1 < np.mean(found.error**2) / found.share.var() < 1.35


def test_what_counts_more_strays_more_and_leaves_less_freedom() -> None:
    """Pairs without a common image: a t test of one value a pair, and a weighted one."""
    ends = ends_of([(2 * n, 2 * n + 1) for n in range(30)])
    won = np.random.default_rng(2).normal(0, 1, (30, 1))
    found = Sharing(ends, np.ones(30)).spread(won)
    assert found.error[0] == pytest.approx(won.std(ddof=1) / 30**0.5)
    assert found.freedom[0] == pytest.approx(29)
    counts = np.where(np.arange(30) < 5, 10, 1)
    # Kish's: as many as (sum of squares) squared over the sum of fourth powers
    clusters = (5 * 10**2 + 25) ** 2 / (5 * 10**4 + 25)
    assert Sharing(ends, counts).spread(won * counts[:, None]).freedom[0] == pytest.approx(clusters - 1)


def test_never_less_than_if_pairs_were_independent() -> None:
    """Images that stray against each other: their sums are even, and the variance by images is negative."""
    ends = every(6)
    won = np.array([[1.0 if (s + t) % 2 else -1.0] for s, t in ends])
    found = Sharing(ends_of(ends), np.ones(len(ends))).spread(won)
    assert found.error[0] > 0


def test_too_few_images_tell_nothing() -> None:
    for ends, known in (([(0, 1)], False), ([(0, 1), (1, 0)], False), (every(3), False), (every(4), True)):
        assert Sharing(ends_of(ends), np.ones(len(ends))).known == known
    assert not Sharing(ends_of([(0, 0), (0, 0)]), np.ones(2)).known
    assert Sharing(ends_of([(0, 1), (2, 3)]), np.ones(2)).known


def test_categories_that_share_an_image_are_one() -> None:
    """Pairs of one category each, and one image in both."""
    ends = every(7)
    told = ["cat" if max(pair) < 4 else "dog" for pair in ends]
    won = np.array([[float(category == "cat")] for category in told])
    one = Sharing(ends_of(ends), np.ones(len(ends))).spread(won)
    two = Sharing(ends_of(ends, told), np.ones(len(ends))).spread(won)
    assert two.error[0] == pytest.approx(one.error[0])
    assert one.error[0] > 0


def test_some_of_the_pairs_are_numbered_anew() -> None:
    ends = ends_of([(3, 5), (5, 9), (9, 3)], ["cat", "dog", "dog"]).take(np.array([1, 2]))
    assert (ends.source.tolist(), ends.target.tolist()) == ([1, 2], [2, 0])
    assert (ends.category.tolist(), ends.images) == ([0, 0], 3)

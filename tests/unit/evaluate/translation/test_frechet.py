"""The distance of Gaussians by hand, and statistics that do not depend on how the vectors came."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from scipy import linalg

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.evaluate.translation.frechet import GaussianStatistics, SetsApart, VectorSettings, frechet_distance

DINO = VectorSettings("dinov2", "png")


def of(*batches: Float[np.ndarray, "n d"], told: VectorSettings = DINO) -> GaussianStatistics:
    statistics = GaussianStatistics(batches[0].shape[1], told)
    for batch in batches:
        statistics.update(batch)
    return statistics


def vectors(seed: int, count: int = 40, width: int = 5) -> Float[np.ndarray, "n d"]:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((count, width)) @ draw.standard_normal((width, width)) + draw.standard_normal(width)


def test_statistics_are_numpys() -> None:
    statistics = of(vectors(0)[:7], vectors(0)[7:7], vectors(0)[7:])
    assert statistics.count == 40
    assert np.allclose(statistics.mean, vectors(0).mean(axis=0))
    assert np.allclose(statistics.covariance(), np.cov(vectors(0), rowvar=False))


@settings(max_examples=30)
@given(st.permutations(range(12)), st.integers(0, 12), st.sampled_from(["batches", "parts"]))
def test_order_batches_and_parts_do_not_matter(order: list[int], cut: int, come: str) -> None:
    rows = vectors(0, 12)[order]
    if come == "parts":
        statistics, rest = of(rows[:cut]), of(rows[cut:])
        statistics.merge(rest)
    else:
        statistics = of(rows[:cut], rows[cut:])
    assert statistics.count == 12
    assert np.allclose(statistics.mean, vectors(0, 12).mean(axis=0))
    assert np.allclose(statistics.covariance(), np.cov(vectors(0, 12), rowvar=False))


def test_a_far_mean_costs_no_digits() -> None:
    far = of(*np.split(vectors(0) + 1e7, 4)).covariance()
    assert np.allclose(far, np.cov(vectors(0), rowvar=False), rtol=1e-6)


def test_single_precision_is_summed_in_double() -> None:
    rows = (vectors(0, 4000) + 1000).astype(np.float32)
    assert np.allclose(of(*np.split(rows, 100)).covariance(), np.cov(rows.astype(np.float64), rowvar=False))


def test_one_dimension_by_hand() -> None:
    """Means 0 and 3, deviations sqrt(2) and 2 sqrt(2): 9 + 2."""
    found = frechet_distance(of(np.asarray([[-1.0], [1.0]])), of(np.asarray([[1.0], [5.0]])))
    assert found.value == pytest.approx(11)
    assert found.vectors == (2, 2)


def test_diagonal_covariances_by_hand() -> None:
    square = np.asarray([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    wide = of(square * [3, 1])
    unbiased = 4 / 3
    assert frechet_distance(of(square), wide).value == pytest.approx(unbiased * (3 - 1) ** 2)


def test_it_is_the_textbooks_value_where_covariances_are_regular() -> None:
    one, other = of(vectors(0)), of(vectors(1))
    root = linalg.sqrtm(one.covariance() @ other.covariance())
    expected = np.square(one.mean - other.mean).sum() + np.trace(one.covariance() + other.covariance() - 2 * root.real)
    assert frechet_distance(one, other).value == pytest.approx(expected)


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(0, 99), st.sampled_from([3, 40]))
def test_it_is_symmetrical_and_nothing_from_itself(seed: int, other: int, count: int) -> None:
    first, second = of(vectors(seed, count)), of(vectors(other, count))
    there, back = frechet_distance(first, second).value, frechet_distance(second, first).value
    assert there == pytest.approx(back, abs=1e-9)
    assert frechet_distance(first, first).value == pytest.approx(0, abs=1e-9)
    assert there > 1e-3 or seed == other


def test_rotating_both_changes_nothing_and_shifting_one_adds_the_square() -> None:
    turn = linalg.qr(np.random.default_rng(5).standard_normal((5, 5)))[0]
    plain = frechet_distance(of(vectors(0)), of(vectors(1))).value
    assert frechet_distance(of(vectors(0) @ turn), of(vectors(1) @ turn)).value == pytest.approx(plain)
    values = [frechet_distance(of(vectors(0)), of(vectors(0) + np.asarray([by, 0, 0, 0, 0]))).value for by in (1, 2, 3)]
    assert values == pytest.approx([1, 4, 9])


def test_singular_covariances_are_exact() -> None:
    """Two lines at a right angle share nothing: the distance is the sum of their spreads."""
    line = np.zeros((3, 6))
    line[:, 0] = [-1, 0, 1]
    across = np.roll(line, 1, axis=1) * 2
    found = frechet_distance(of(line), of(across))
    assert found.value == pytest.approx(1 + 4, abs=1e-12)
    assert frechet_distance(of(line), of(line * 3)).value == pytest.approx((3 - 1) ** 2, abs=1e-12)


def test_a_set_too_small_is_warned_of() -> None:
    assert "5 vectors of width 5" in frechet_distance(of(vectors(0, 40)), of(vectors(1, 5))).warning
    assert frechet_distance(of(vectors(0, 40)), of(vectors(1, 6))).warning == ""


def test_formats_that_differ_are_warned_of() -> None:
    found = frechet_distance(of(vectors(0)), of(vectors(1), told=VectorSettings("dinov2", "jpg")))
    assert found.warning == "one set was stored as png, the other as jpg"
    assert [told.stored for told in found.settings] == ["png", "jpg"]


def test_a_single_picture_has_no_covariance() -> None:
    with pytest.raises(DatasetError, match="2 vectors or more, the set has 1"):
        frechet_distance(of(vectors(0, 1)), of(vectors(1)))


def test_sets_that_cannot_be_compared_are_refused() -> None:
    fid = VectorSettings("inception", "png")
    with pytest.raises(ConfigError, match="cannot be compared"):
        frechet_distance(of(vectors(0)), of(vectors(1), told=fid))
    with pytest.raises(ConfigError, match="cannot be compared"):
        frechet_distance(of(vectors(0)), of(vectors(1, width=6)))
    with pytest.raises(ConfigError, match="two kinds"):
        of(vectors(0)).merge(of(vectors(1), told=VectorSettings("dinov2", "jpg")))
    with pytest.raises(ConfigError, match="of width 6 among others of 5"):
        of(vectors(0), vectors(1, width=6))
    with pytest.raises(DatasetError, match="vectors 40 to 41 some are not finite"):
        of(vectors(0), np.full((2, 5), np.nan))
    with pytest.raises(ConfigError, match="width of 1"):
        GaussianStatistics(0, DINO)


def test_sets_taken_in_by_pairs_of_pictures_are_as_far_apart_as_at_once() -> None:
    made, wanted, apart = vectors(0), vectors(1), SetsApart(DINO)
    apart.add(made[0], wanted[0])
    assert apart.distance is None
    assert apart.describe() == {"network": DINO.network, "stored": DINO.stored}
    for pair in zip(made[1:], wanted[1:], strict=True):
        apart.add(*pair)
    found = apart.distance
    assert found is not None
    assert found.value == pytest.approx(frechet_distance(of(made), of(wanted)).value)
    assert apart.distance is found
    assert apart.describe()["vectors"] == [len(made), len(made)]
    apart.add(made[0] + 100, wanted[0])
    assert apart.distance is not None
    assert apart.distance.value > found.value

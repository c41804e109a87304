"""Matches against the truth, and the alarms, by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.evaluate.translation.warping import (
    DensePck,
    copied,
    copy_score,
    cycle_error,
    dense_pck,
    entropy_alarm,
    forward_backward_rate,
    mean_entropy,
    part_agreement,
    pooled,
    round_trips,
    row_entropies,
)

ALL = np.ones((4, 6), dtype=np.bool_)
NONE = np.zeros((4, 6), dtype=np.bool_)


def shifted(by: float) -> Float[np.ndarray, "4 6 2"]:
    return copied((4, 6)) + np.asarray([by, 0], np.float32)


def test_the_copy_takes_each_cell_to_itself() -> None:
    flow = copied((4, 6))
    assert flow.shape == (4, 6, 2)
    assert flow[1, 3].tolist() == [3, 1]


def test_a_match_exactly_at_the_bound_counts() -> None:
    found = dense_pck(shifted(1), copied((4, 6)), reference=10.0, alphas=(0.05, 0.1, 0.125))
    assert found == DensePck({"0.05": 0, "0.10": 24, "0.125": 24}, 24)
    assert found.scores == {"0.05": 0.0, "0.10": 100.0, "0.125": 100.0}


def test_both_axes_make_the_distance() -> None:
    found = copied((4, 6)) + np.asarray([3, 4], np.float32)
    assert dense_pck(found, copied((4, 6)), reference=10.0, alphas=(0.49, 0.5)).correct == {"0.49": 0, "0.50": 24}


def test_cells_without_truth_do_not_count_and_cells_without_match_are_wrong() -> None:
    found, truth = shifted(0), copied((4, 6))
    truth[0, :, 1] = math.nan
    found[1, 0] = math.nan
    assert dense_pck(found, truth, reference=6.0, alphas=(0.1,)) == DensePck({"0.10": 17}, 18)


def test_without_any_truth_the_score_is_nan() -> None:
    nothing = np.full((4, 6, 2), math.nan, np.float32)
    found = dense_pck(shifted(0), nothing, reference=6.0, alphas=(0.1,))
    assert found.cells == 0
    assert math.isnan(found.scores["0.10"])


def test_counts_are_added_so_that_cells_count_alike() -> None:
    assert pooled([DensePck({"0.10": 1}, 1), DensePck({"0.10": 0}, 3)]).scores == {"0.10": 25.0}
    assert pooled([DensePck({"0.10": 0}, 0), DensePck({"0.10": 2}, 4)]).scores == {"0.10": 50.0}


@pytest.mark.parametrize("parts", [[], [DensePck({"0.10": 1}, 1), DensePck({"0.05": 1}, 1)]])
def test_counts_of_other_alphas_are_not_added(parts: list[DensePck]) -> None:
    with pytest.raises(ConfigError, match="same alphas"):
        pooled(parts)


@pytest.mark.parametrize(("reference", "alphas"), [(0.0, (0.1,)), (1.0, ()), (1.0, (0.0,))])
def test_impossible_thresholds_are_refused(reference: float, alphas: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="positive"):
        dense_pck(shifted(0), shifted(0), reference=reference, alphas=alphas)


def test_parts_agree_on_the_foreground() -> None:
    labels = np.arange(24).reshape(4, 6)
    warped = labels.copy()
    warped[0, :3] = 99
    foreground = NONE.copy()
    foreground[0, :4] = True
    assert part_agreement(warped, labels, foreground=foreground) == 0.25
    assert part_agreement(warped, labels, foreground=ALL) == 21 / 24
    with pytest.raises(DatasetError, match="no cell counts"):
        part_agreement(warped, labels, foreground=NONE)


def test_entropies_by_hand() -> None:
    rows = np.asarray([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4], np.float32)
    assert row_entropies(rows).tolist() == pytest.approx([0, math.log(2), math.log(4)])
    assert mean_entropy(rows) == pytest.approx(math.log(2))
    assert mean_entropy(np.asarray([[1e-3, 1 - 1e-3]])) == pytest.approx(7.9073e-3, rel=1e-4)


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(0, 99))
def test_entropy_lies_between_0_and_that_of_alike_cells(cells: int, seed: int) -> None:
    rows = np.random.default_rng(seed).dirichlet(np.ones(cells), size=3)
    assert ((row_entropies(rows) >= 0) & (row_entropies(rows) <= math.log(cells) + 1e-12)).all()
    assert row_entropies(rows[:, ::-1]).tolist() == pytest.approx(row_entropies(rows).tolist())


@pytest.mark.parametrize("rows", [[[0.5, 0.4]], [[1.5, -0.5]], [[math.nan, 1.0]]])
def test_what_is_no_distribution_has_no_entropy(rows: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match="softmax"):
        row_entropies(np.asarray(rows))


def test_no_rows_have_no_mean() -> None:
    with pytest.raises(DatasetError, match="no matched cell"):
        mean_entropy(np.zeros((0, 4)))


def test_the_alarm_fires_on_the_toys_collapse_and_not_on_its_good_head() -> None:
    assert "6.34 of at most ln 576 = 6.36" in entropy_alarm(6.34, 576)
    assert entropy_alarm(3.0, 576) == ""
    assert entropy_alarm(0.95 * math.log(576) + 1e-9, 576)
    assert entropy_alarm(0.95 * math.log(576) - 1e-9, 576) == ""
    assert entropy_alarm(3.2, 576, share=0.5)


@pytest.mark.parametrize(("cells", "share"), [(1, 0.9), (9, 0.0), (9, 1.1)])
def test_an_impossible_alarm_is_refused(cells: int, share: float) -> None:
    with pytest.raises(ConfigError, match="alarm"):
        entropy_alarm(1.0, cells, share=share)


def test_there_and_back_is_where_one_was() -> None:
    assert (round_trips(copied((4, 6)), copied((4, 6))) == 0).all()
    flipped = copied((4, 6))[:, ::-1]
    assert cycle_error(flipped, flipped) == 0
    assert forward_backward_rate(flipped, flipped) == 1


def test_round_trips_between_grids_of_other_sizes() -> None:
    forward = np.zeros((4, 6, 2), np.float32)
    forward[...] = [1.4, 0.6]
    backward = np.zeros((2, 3, 2), np.float32)
    backward[1, 1] = [5, 3]
    trips = round_trips(forward, backward)
    assert trips[3, 5] == 0
    assert trips[0, 5] == 3
    assert trips[3, 1] == 4
    assert trips[0, 1] == 5


def test_a_trip_of_one_cell_and_a_half_is_near_enough() -> None:
    back = shifted(1.5)
    assert forward_backward_rate(copied((4, 6)), back) == 1
    assert forward_backward_rate(copied((4, 6)), shifted(1.6)) == 0
    assert forward_backward_rate(copied((4, 6)), shifted(1.6), within=2.0) == 1
    assert cycle_error(copied((4, 6)), back) == pytest.approx(1.5)


def test_only_masked_cells_make_the_trip() -> None:
    back, where = copied((4, 6)), NONE.copy()
    back[0, 0] = [0, 2]
    where[0, :4] = True
    assert cycle_error(copied((4, 6)), back, where=where) == 0.5
    assert forward_backward_rate(copied((4, 6)), back, where=where) == 0.75
    assert forward_backward_rate(copied((4, 6)), back) == 23 / 24
    with pytest.raises(DatasetError, match="no cell counts"):
        cycle_error(copied((4, 6)), back, where=NONE)


def test_a_trip_needs_matches() -> None:
    lost = copied((4, 6))
    lost[2, 2, 0] = math.nan
    for forward, backward in ((lost, copied((4, 6))), (copied((4, 6)), lost)):
        with pytest.raises(ConfigError, match="finite"):
            round_trips(forward, backward)


def test_the_copy_score() -> None:
    assert copy_score(copied((4, 6)), foreground=ALL) == 1
    assert copy_score(shifted(1), foreground=ALL) == 1
    assert copy_score(shifted(1.1), foreground=ALL) == 0
    flipped = copied((4, 6))[:, ::-1]
    assert copy_score(flipped, foreground=ALL) == pytest.approx(2 / 6)
    half = NONE.copy()
    half[:, :2] = True
    assert copy_score(flipped, foreground=half) == 0
    assert copy_score(np.full((4, 6, 2), math.nan), foreground=ALL) == 0
    with pytest.raises(DatasetError, match="no cell counts"):
        copy_score(flipped, foreground=NONE)

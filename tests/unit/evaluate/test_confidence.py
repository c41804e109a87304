"""Risk over coverage and calibration, worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from matchkit.evaluate.confidence import calibration_error, risk_over_coverage, trust
from matchkit.evaluate.evidence import Evidence

RIGHT, WRONG = True, False


def test_the_risk_among_the_surest() -> None:
    """Sorted by score: right, wrong, right, wrong."""
    risks = risk_over_coverage(np.array([WRONG, RIGHT, RIGHT, WRONG]), np.array([0.8, 0.9, 0.4, 0.1]))
    assert risks.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4])


def test_equally_sure_ones_share_their_risk() -> None:
    """One of two is wrong: the first of them is wrong half of the time."""
    risks = risk_over_coverage(np.array([RIGHT, WRONG, WRONG]), np.array([0.5, 0.5, 0.1]))
    assert risks.tolist() == pytest.approx([1 / 2, 1 / 2, 2 / 3])
    turned = risk_over_coverage(np.array([WRONG, RIGHT, WRONG]), np.array([0.5, 0.5, 0.1]))
    assert turned.tolist() == risks.tolist()


def test_calibration_error_is_the_gap_of_each_bin_weighted_by_its_size() -> None:
    """Bins of a fifteenth: .95 and 1 (both right) in the last, .5 twice (one right), .1 (wrong)."""
    probability = np.array([0.95, 1.0, 0.5, 0.5, 0.1])
    correct = np.array([RIGHT, RIGHT, RIGHT, WRONG, WRONG])
    assert calibration_error(correct, probability) == pytest.approx((2 * 0.025 + 0 + 0.1) / 5)
    # within a bin, too much and too little cancel
    assert calibration_error(np.array([RIGHT, WRONG]), np.array([0.49, 0.51])) == pytest.approx(0.0)
    assert calibration_error(np.array([RIGHT, WRONG]), np.array([0.1, 0.9])) == pytest.approx(0.9)


def some(count: int) -> Evidence:
    rising = np.arange(count, dtype=np.float64)
    return Evidence(rising, -rising, rising / count, rising, np.zeros(count, np.bool_))


def test_every_kind_of_evidence_and_a_short_cycle_is_sure() -> None:
    """Of ten the last five are right: their similarity is greater, their margin less, and their cycle longer."""
    found = trust(np.arange(10) >= 5, some(10))
    assert {name: told.auroc for name, told in found.items()} == {
        **{"similarity": 100.0, "margin": 0.0, "cycle": 0.0, "probability": 100.0}
    }
    assert found["similarity"].risks[:10] == (0.0,) * 10
    assert found["similarity"].risks[-1] == 50.0
    assert found["margin"].risks[:10] == (100.0,) * 10
    assert found["similarity"].aurc == pytest.approx(100 * (1 / 6 + 2 / 7 + 3 / 8 + 4 / 9 + 5 / 10) / 10, abs=1e-4)
    # probabilities 0, .1, ... .9: each in a bin of its own
    assert found["probability"].ece == pytest.approx(100 * (0.1 + 0.2 + 0.3 + 0.4 + 0.5 + 0.4 + 0.3 + 0.2 + 0.1) / 10)
    assert found["similarity"].ece is None


def test_a_matcher_without_softmax_has_no_probability() -> None:
    evidence = replace(some(4), probability=np.full(4, np.nan))
    found = trust(np.ones(4, np.bool_), evidence)
    assert sorted(found) == ["cycle", "margin", "similarity"]
    assert found["cycle"].auroc is None
    assert found["cycle"].aurc == 0.0

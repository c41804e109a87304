"""Whether a match's evidence tells if the match is right: risk over coverage, calibration, and ranks."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from matchkit.evaluate.analyses import COVERAGES, Trust
from matchkit.evaluate.evidence import Evidence
from matchkit.evaluate.ranking import auroc

BINS = 15
"""Of equal width, as Guo et al., On Calibration of Modern Neural Networks, ICML 2017, have them."""


def trust(correct: Bool[np.ndarray, " n"], evidence: Evidence) -> dict[str, Trust]:
    """How far each kind of evidence can be trusted; `probability` only where the matcher has one.

    The cycle error counts the other way round: the shorter, the surer.
    """
    scores: Mapping[str, Float[np.ndarray, " n"]] = {
        "similarity": evidence.similarity,
        "margin": evidence.margin,
        "cycle": -evidence.cycle,
    }
    found = {name: _trust(correct, score, None) for name, score in scores.items()}
    if not np.isnan(evidence.probability).any():
        error = calibration_error(correct, evidence.probability)
        found["probability"] = _trust(correct, evidence.probability, error)
    return found


def _trust(correct: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"], error: float | None) -> Trust:
    risks = risk_over_coverage(correct, score)
    kept = np.ceil(np.asarray(COVERAGES) / 100 * len(risks) - 1e-9).astype(np.int64)
    ranked = auroc(score, correct)
    return Trust(
        aurc=percent(risks.mean()),
        auroc=None if np.isnan(ranked) else percent(ranked),
        ece=None if error is None else percent(error),
        risks=tuple(percent(risk) for risk in risks[kept - 1]),
    )


def percent(share: float | np.floating) -> float:
    """A share as it stands in reports."""
    return round(100 * float(share), 4)


def risk_over_coverage(correct: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The share of wrong ones among the surest 1, 2, ... n; of equally sure ones, what is to be expected of any order.

    Its mean is the AURC. Source: Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation, ICLR 2019.
    """
    levels, level = np.unique(-score, return_inverse=True)
    share = np.bincount(level, weights=~correct, minlength=len(levels)) / np.bincount(level)
    wrong = np.cumsum(share[np.sort(level)])
    return np.asarray(wrong / np.arange(1, len(score) + 1))


def calibration_error(correct: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"]) -> float:
    """The expected calibration error: how far bins of probabilities are from their shares of correct ones; 0..1."""
    bins = np.clip((probability * BINS).astype(np.int64), 0, BINS - 1)
    gaps = np.bincount(bins, weights=correct - probability.astype(np.float64), minlength=BINS)
    return float(np.abs(gaps).sum() / len(correct))

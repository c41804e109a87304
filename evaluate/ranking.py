"""How well scores rank what is so above what is not."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata


def auroc(scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """How likely a positive one scores above a negative one, and half as likely where both score the same; 0..1.

    NaN where there is only one kind.
    """
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return float("nan")
    above = rankdata(scores)[positive].sum() - count * (count + 1) / 2
    return float(above / (count * others))


def average_precisions(
    scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"], group: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " g"]:
    """The area under each group's steps of precision over recall, in the order of the groups' numbers; 0..1.

    Equal scores are one step. A group without a positive one has 0.
    """
    order = np.lexsort((-scores, group))
    score, hit = scores[order], positive[order].astype(np.float64)
    starts, row = np.unique(group[order], return_index=True, return_inverse=True)[1:]
    ends = np.append((score[1:] != score[:-1]) | (row[1:] != row[:-1]), True)
    hits = np.cumsum(hit)
    won = (hits - (hits - hit)[starts][row])[ends]
    listed = (np.arange(1, len(score) + 1) - starts[row])[ends]
    step, of_step = np.diff(won, prepend=0.0), row[ends]
    first = np.diff(of_step, prepend=-1) > 0
    step[first] = won[first]
    total = np.bincount(row, weights=hit)
    return np.asarray(np.bincount(of_step, weights=step * won / listed) / np.maximum(total, 1))

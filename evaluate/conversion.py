"""The conversion table: one file of predictions under many protocols, a row a protocol and reference length."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Real

from matchkit.core.errors import DatasetError, MatchkitError
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.measured import Measured, measure, verdicts
from matchkit.evaluate.pck import averages, count, with_keypoints, won
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import Average, EvalProtocol
from matchkit.evaluate.report import Scores
from matchkit.evaluate.resampling import share_intervals
from matchkit.evaluate.subsets import chosen

RESAMPLED: tuple[Average, ...] = ("keypoint", "image")
"""The averages that are one share of sums over pairs, and so have intervals."""
SHOWN = "0.10"
"""The alpha whose interval a table has room for."""


@dataclass(frozen=True, slots=True)
class Row:
    """What came out under one protocol by one reference length.

    Attributes:
        protocol: with this reference alone.
        counts: pairs, images and keypoints that were scored.
        scores: every average in percent, e.g. `scores["keypoint"]["0.10"]`; the protocol says which one is its own.
        intervals: the 95 % interval of the protocol's average by alpha, over resamplings of the images; of the averages
            `keypoint` and `image` alone.
        missing: why there is nothing; "" where there is.
    """

    protocol: EvalProtocol
    counts: Mapping[str, int] = field(default_factory=dict)
    scores: Scores = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    missing: str = ""

    @property
    def headline(self) -> Mapping[str, float]:
        """The protocol's own average by alpha; of a row without scores, nothing."""
        return self.scores.get(self.protocol.average, {})


@dataclass(frozen=True, slots=True)
class Conversion:
    """The rows, and what made the predictions: dataset, split, head and digests."""

    rows: tuple[Row, ...]
    made_by: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Writes all of it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n")

    def table(self) -> str:
        """A Markdown table of each protocol's own average at its alphas, with a column an alpha that any has.

        At 0.10 the interval stands in brackets, where there is one. A row without scores says why in its first column.
        """
        alphas = sorted({alpha for row in self.rows for alpha in row.protocol.names}, key=float)
        facts = ["protocol", "frame", "reference", "comparison", "average"]
        header = [*facts, *(f"PCK@{alpha}" for alpha in alphas), "pairs"]
        ruled = ["---"] * len(facts) + ["---:"] * (len(alphas) + 1)
        lines = [header, ruled, *(_cells(row, alphas) for row in self.rows)]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@dataclass(frozen=True, slots=True)
class _Scored:
    """A row without its intervals, and what these are of."""

    row: Row
    keypoints: Measured
    correct: Bool[np.ndarray, "n a"]


def convert(
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRecord],
    predictions: Predictions,
    protocols: Iterable[EvalProtocol],
) -> Conversion:
    """Scores predictions under each protocol, by each of its reference lengths.

    The pairs are put together once for all protocols that score the same ones, and these share the images that are
    drawn for their intervals.

    Raises:
        DatasetError: no pair has a keypoint, or the dataset can serve none of the protocols.
    """
    counted = with_keypoints(pairs)
    measured: dict[tuple[object, ...], Measured] = {}
    rows: list[Row] = []
    drawn: defaultdict[tuple[int, Average, int], dict[int, _Scored]] = defaultdict(dict)
    for protocol in [replace(told, references=(name,)) for told in protocols for name in told.references]:
        subset = (protocol.subset, protocol.subset_digest, protocol.viewpoint, protocol.pairs_a_category)
        try:
            if subset not in measured:
                measured[subset] = measure(chosen(counted, protocol), images, predictions)
            scored = _scored(measured[subset], protocol)
        except MatchkitError as error:
            rows.append(Row(protocol, missing=str(error)))
            continue
        if protocol.resamples and protocol.average in RESAMPLED:
            drawn[id(scored.keypoints), protocol.average, protocol.resamples][len(rows)] = scored
        rows.append(scored.row)
    if all(row.missing for row in rows):
        raise DatasetError(f"no protocol can be scored: {rows[0].missing}")
    for group in drawn.values():
        found = iter(_intervals(list(group.values())))
        for number, scored in group.items():
            rows[number] = replace(scored.row, intervals={name: next(found) for name in scored.row.protocol.names})
    return Conversion(tuple(rows), predictions.made_by)


def _scored(keypoints: Measured, protocol: EvalProtocol) -> _Scored:
    correct = verdicts(keypoints, protocol, protocol.references[0])
    scores = averages(correct, keypoints.pair, keypoints.category, names=protocol.names)
    counts = count(keypoints, np.ones(len(correct), dtype=bool))
    return _Scored(Row(protocol, counts, scores), keypoints, correct)


def _intervals(group: Sequence[_Scored]) -> list[tuple[float, float]]:
    """The intervals of all alphas of some rows of the same keypoints, average and number of resamplings."""
    keypoints, protocol = group[0].keypoints, group[0].row.protocol
    sums: Real[np.ndarray, "p k"] = won(keypoints, np.concatenate([scored.correct for scored in group], axis=1))
    counts: Real[np.ndarray, " p"] = keypoints.counts
    if protocol.average == "image":
        # a mean of shares is itself a share, of one for every pair
        sums, counts = sums / counts[:, None], np.ones(len(counts))
    found = share_intervals(sums, counts, keypoints.pairs, resamples=protocol.resamples)
    return [(round(float(low), 4), round(float(high), 4)) for low, high in found]


def _cells(row: Row, alphas: Sequence[str]) -> list[str]:
    protocol = row.protocol
    # what is wrong, without the remedy of one protocol alone
    missing = row.missing.partition(". ")[0].replace("|", "\\|")
    name = f"{protocol.name}: not scored, {missing}" if missing else protocol.name
    facts = [name, protocol.frame_name, protocol.references[0], f"`{protocol.comparison}`", protocol.average]
    pairs = f"{row.counts['pairs']:,}" if row.counts else "-"
    return [*facts, *(_shown(row, alpha) for alpha in alphas), pairs]


def _shown(row: Row, alpha: str) -> str:
    if alpha not in row.headline:
        return "-"
    ends = row.intervals.get(alpha) if alpha == SHOWN else None
    return f"{row.headline[alpha]:.1f}" + (f" ({ends[0]:.1f} to {ends[1]:.1f})" if ends else "")

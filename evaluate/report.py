"""Reports: the scores with all that made them, and the table over several of them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matchkit.core.errors import MatchkitError
from matchkit.evaluate.analyses import Analyses
from matchkit.evaluate.breakdown import in_order
from matchkit.evaluate.protocol import Average, EvalProtocol, Reference

Scores = Mapping[str, Mapping[str, float]]
"""Percentages {average: {alpha: PCK}}."""
Intervals = Mapping[str, Mapping[str, tuple[float, float]]]
"""95 % intervals {reference: {alpha: (low, high)}} of the average `keypoint` over resamplings of the images, in
percent."""


@dataclass(frozen=True, slots=True)
class Part:
    """What came out on a part of the keypoints.

    Attributes:
        counts: pairs with such keypoints, their images, and the keypoints.
        occurrence: percent of all pairs, a mean over categories, and of all keypoints.
        scores: by reference, as those of a report.
        intervals: of these.
    """

    counts: Mapping[str, int]
    occurrence: Mapping[str, float]
    scores: Mapping[str, Scores]
    intervals: Intervals = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What came out under which protocol.

    Attributes:
        scores: by reference, e.g. `scores["box"]["keypoint"]["0.10"]`, in percent.
        categories: by reference and category.
        counts: pairs, images and keypoints that were scored.
        protocol: what the numbers mean.
        made_by: dataset, split, head and the digests of all that made the predictions.
        breakdowns: the parts of each breakdown by name, e.g. `breakdowns["geometry"]["aware"]`.
        intervals: e.g. `intervals["box"]["0.10"]`.
        category_intervals: by category, e.g. `category_intervals["cat"]["box"]["0.10"]`.
        analyses: what is known beside the scores, or None.
    """

    scores: Mapping[str, Scores]
    categories: Mapping[str, Mapping[str, Scores]]
    counts: Mapping[str, int]
    protocol: EvalProtocol
    made_by: Mapping[str, Any]
    breakdowns: Mapping[str, Mapping[str, Part]] = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)
    category_intervals: Mapping[str, Intervals] = field(default_factory=dict)
    analyses: Analyses | None = None

    @property
    def partial(self) -> bool:
        """Whether only a part of the split was matched."""
        return bool(self.made_by.get("limit"))

    def save(self, path: Path) -> None:
        """Writes the report as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Report":
        """Reads what `save` wrote, and reports from before there were breakdowns, intervals and analyses.

        Raises:
            MatchkitError: the file is missing or not a report.
        """
        try:
            data = json.loads(path.read_text())
            breakdowns, by_category = data.pop("breakdowns", {}), data.pop("category_intervals", {})
            analyses = data.pop("analyses", None)
            return cls(
                protocol=_protocol(data.pop("protocol")),
                breakdowns={
                    name: {part: _part(told) for part, told in parts.items()} for name, parts in breakdowns.items()
                },
                intervals=_ends(data.pop("intervals", {})),
                category_intervals={name: _ends(told) for name, told in by_category.items()},
                analyses=None if analyses is None else Analyses.read(analyses),
                **data,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MatchkitError(f"{path} is not a report ({error}). Run: matchkit evaluate") from error


def _part(told: Mapping[str, Any]) -> Part:
    return Part(**{**told, "intervals": _ends(told.get("intervals", {}))})


def _ends(told: Mapping[str, Any]) -> Intervals:
    """Intervals as JSON has them, whose pairs are lists."""
    return {reference: {alpha: (low, high) for alpha, (low, high) in ends.items()} for reference, ends in told.items()}


def _protocol(told: Mapping[str, Any]) -> EvalProtocol:
    """What a report was made under; fields that it is older than are as they were for everyone then.

    Lists are tuples. Without `resamples` there were no intervals.
    """
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    return EvalProtocol(
        alphas=fields.pop("alphas"),
        references=fields.pop("references"),
        comparison=fields.pop("comparison"),
        resamples=fields.pop("resamples", 0),
        **fields,
    )


def summary_table(reports: Mapping[str, Report], *, reference: Reference, average: Average) -> str:
    """A Markdown table, one row a report in the order given; the best of each column is bold.

    The middle alpha of the average `keypoint` has its interval in brackets, where a report has one. All reports must
    be of one dataset and split and have the same alphas.
    """
    scores = {name: report.scores[reference][average] for name, report in reports.items()}
    alphas = list(next(iter(scores.values())))
    best = {alpha: max(values[alpha] for values in scores.values()) for alpha in alphas}
    rows = []
    for name, values in scores.items():
        shown = {
            alpha: f"**{values[alpha]:.1f}**" if values[alpha] == best[alpha] else f"{values[alpha]:.1f}"
            for alpha in alphas
        }
        ends = reports[name].intervals.get(reference, {}).get(middle(alphas))
        if ends and average == "keypoint":
            shown[middle(alphas)] += f" ({ends[0]:.1f} to {ends[1]:.1f})"
        rows.append([name, *shown.values()])
    return markdown(["method", *(f"PCK@{alpha}" for alpha in alphas)], rows)


def middle(alphas: Sequence[str]) -> str:
    """The alpha that stands for all where there is room for one."""
    return alphas[len(alphas) // 2]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is text, and all others are numbers."""
    ruled = "|---|" + "---:|" * (len(header) - 1)
    first, *others = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join([first, ruled, *others])


def breakdown_table(
    reports: Mapping[str, Report], breakdown: str, *, reference: Reference, average: Average, alpha: str
) -> str:
    """A Markdown table of PCK at one alpha, one column a part of the breakdown; its last row counts keypoints.

    Reports without the breakdown have no row.
    """
    told = {name: report.breakdowns[breakdown] for name, report in reports.items() if breakdown in report.breakdowns}
    counted = {name: part.counts["keypoints"] for parts in told.values() for name, part in parts.items()}
    names = in_order(counted)
    rows = [
        [method, *(_cell(parts.get(name), reference=reference, average=average, alpha=alpha) for name in names)]
        for method, parts in told.items()
    ]
    rows.append(["*keypoints*", *(f"{counted[name]:,}" for name in names)])
    return markdown([f"method (PCK@{alpha}, {breakdown})", *names], rows)


def _cell(part: Part | None, *, reference: Reference, average: Average, alpha: str) -> str:
    return "-" if part is None else f"{part.scores[reference][average][alpha]:.1f}"


def category_table(reports: Mapping[str, Report], *, reference: Reference, alpha: str) -> str:
    """A Markdown table of per-keypoint PCK at one alpha, one column a category."""
    names = sorted({name for report in reports.values() for name in report.categories[reference]})
    rows = [
        [method, *(f"{report.categories[reference][name]['keypoint'][alpha]:.1f}" for name in names)]
        for method, report in reports.items()
    ]
    return markdown([f"method (PCK@{alpha})", *names], rows)


def counts_line(reports: Sequence[Report]) -> str:
    """What was scored, e.g. `1,000 pairs, 250 images, 5,788 keypoints`."""
    counts = reports[0].counts
    return ", ".join(f"{counts[name]:,} {name}" for name in ("pairs", "images", "keypoints"))

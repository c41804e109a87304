"""Reports: the scores with all that made them, and the table over several of them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matchkit.core.errors import MatchkitError
from matchkit.evaluate.protocol import EvalProtocol

Scores = Mapping[str, Mapping[str, float]]
"""Percentages {average: {alpha: PCK}}."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came out under which protocol.

    Attributes:
        scores: by reference, e.g. `scores["box"]["keypoint"]["0.10"]`, in percent.
        categories: by reference and category.
        counts: pairs, images and keypoints that were scored.
        protocol: what the numbers mean.
        made_by: dataset, split, head and the digests of all that made the predictions.
    """

    scores: Mapping[str, Scores]
    categories: Mapping[str, Mapping[str, Scores]]
    counts: Mapping[str, int]
    protocol: EvalProtocol
    made_by: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Writes the report as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Report":
        """Reads what `save` wrote.

        Raises:
            MatchkitError: the file is missing or not a report.
        """
        try:
            data = json.loads(path.read_text())
            protocol = data.pop("protocol")
            alphas, references = tuple(protocol["alphas"]), tuple(protocol["references"])
            return cls(protocol=EvalProtocol(alphas, references, protocol["comparison"]), **data)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MatchkitError(f"{path} is not a report ({error}). Run: matchkit evaluate") from error


def summary_table(reports: Mapping[str, Report], *, reference: str, average: str) -> str:
    """A Markdown table, one row a report in the order given; the best of each column is bold.

    All reports must be of one dataset and split and have the same alphas.
    """
    columns = [list(report.scores[reference][average].values()) for report in reports.values()]
    alphas = list(next(iter(reports.values())).scores[reference][average])
    best = [max(values) for values in zip(*columns, strict=True)]
    lines = [
        "| method | " + " | ".join(f"PCK@{alpha}" for alpha in alphas) + " |",
        "|---|" + "---:|" * len(alphas),
    ]
    for name, values in zip(reports, columns, strict=True):
        shown = [
            f"**{value:.1f}**" if value == top else f"{value:.1f}" for value, top in zip(values, best, strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def category_table(reports: Mapping[str, Report], *, reference: str, alpha: str) -> str:
    """A Markdown table of per-keypoint PCK at one alpha, one column a category."""
    names = sorted({name for report in reports.values() for name in report.categories[reference]})
    lines = [f"| method (PCK@{alpha}) | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for method, report in reports.items():
        shown = [f"{report.categories[reference][name]['keypoint'][alpha]:.1f}" for name in names]
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def counts_line(reports: Sequence[Report]) -> str:
    """What was scored, e.g. `1,000 pairs, 250 images, 5,788 keypoints`."""
    counts = reports[0].counts
    return ", ".join(f"{counts[name]:,} {name}" for name in ("pairs", "images", "keypoints"))

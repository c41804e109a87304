"""Stage evaluate: predictions scored under a protocol into a report. No network, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matchkit.core.params import build
from matchkit.evaluate.pck import score
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.report import Report
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines.settings import predictions_path, report_path, told


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A report and the file that holds it."""

    path: Path
    report: Report


def evaluate(
    dataset: str,
    name: str,
    *,
    root: Path | None = None,
    predictions: Path | None = None,
    settings: Sequence[str] = (),
) -> Evaluated:
    """Scores the predictions of `name` on the split that they were made for.

    Raises:
        MatchkitError: no predictions, or predictions of other pairs.
    """
    asked = told("evaluate", settings)
    protocol = build(EvalProtocol, asked.values, where=asked.where)
    found = Predictions.load(predictions or predictions_path(dataset, name))
    data = open_dataset(dataset, root)
    report = score(data.pairs(str(found.made_by["split"])), data.images, found, protocol)
    path = report_path(dataset, name)
    report.save(path)
    return Evaluated(path, report)

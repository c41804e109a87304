"""Stage evaluate: predictions scored under a protocol into a report. No network, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.params import build
from matchkit.core.records import Pair, PairDataset
from matchkit.evaluate.breakdown import WITHOUT_GEOMETRY
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
        DatasetError: the dataset does not tell what the protocol needs.
    """
    asked = told("evaluate", settings)
    protocol = build(EvalProtocol, asked.values, where=asked.where)
    found = Predictions.load(predictions or predictions_path(dataset, name))
    data = open_dataset(dataset, root)
    pairs = data.pairs(str(found.made_by["split"]))
    schemes = _schemes(data, pairs) if "geometry" in protocol.breakdowns else {}
    report = score(pairs, data.images, found, protocol, schemes=schemes)
    path = report_path(dataset, name)
    report.save(path)
    return Evaluated(path, report)


def _schemes(data: PairDataset, pairs: Sequence[Pair]) -> dict[str, KeypointScheme]:
    try:
        return {category: data.scheme(category) for category in sorted({pair.category for pair in pairs})}
    except DatasetError as error:
        raise DatasetError(
            f"the breakdown geometry needs the groups of keypoints of every category: {error}. {WITHOUT_GEOMETRY}"
        ) from error

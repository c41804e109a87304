"""Stage evaluate: predictions scored under a protocol into a report, or under all. No network, no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.params import parse_overrides
from matchkit.core.records import ImageRecord, Pair, PairDataset
from matchkit.evaluate.analysing import analyse
from matchkit.evaluate.breakdown import WITHOUT_GEOMETRY
from matchkit.evaluate.card import ALPHAS, result_card
from matchkit.evaluate.conversion import RESAMPLED, Conversion, convert
from matchkit.evaluate.pck import score
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol, Reference
from matchkit.evaluate.protocols import PRESETS, build_protocol
from matchkit.evaluate.report import Report
from matchkit.evaluate.subsets import file_digest
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines.settings import predictions_path, report_path, told

ALL = "all"
"""Stands for every protocol that has a name."""
CARDS = "cards"
"""The folder of result cards beside reports."""
OF_ALL = ("resamples",)
"""Parameters that every protocol may be given and stay itself."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A report and the file that holds it, and its result card."""

    path: Path
    report: Report
    card: Path


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion table, and the files that hold it as JSON and as Markdown."""

    path: Path
    markdown: Path
    conversion: Conversion


def evaluate(
    dataset: str,
    name: str,
    *,
    protocol: str = "",
    root: Path | None = None,
    predictions: Path | None = None,
    settings: Sequence[str] = (),
) -> Evaluated:
    """Scores the predictions of `name` on the split that they were made for.

    Args:
        dataset: its name.
        name: of the predictions.
        protocol: a preset to score under instead of that of `params.yaml`; its report lies beside the plain one.
        root: of the dataset's tree.
        predictions: the file.
        settings: over the protocol's parameters.

    Raises:
        UnknownNameError: no such protocol.
        MatchkitError: no predictions, or predictions of other pairs.
        DatasetError: the dataset does not tell what the protocol needs.
    """
    asked = told("evaluate", [*settings, f"preset={protocol}"] if protocol else settings)
    scored_by = _with_digest(build_protocol(asked.values, where=asked.where))
    found = Predictions.load(predictions or predictions_path(dataset, name))
    data = open_dataset(dataset, root)
    pairs = _matched(data, found)
    schemes = _schemes(data, pairs, strictly="geometry" in scored_by.breakdowns)
    report = score(pairs, data.images, found, scored_by, schemes=schemes)
    report = replace(report, analyses=analyse(pairs, data.images, found, scored_by, schemes))
    path = _beside(dataset, name, f"{protocol}.json") if protocol else report_path(dataset, name)
    report.save(path)
    card = path.parent / CARDS / path.name
    result_card(report, _full(pairs, data.images, found, scored_by)).save(card)
    return Evaluated(path, report, card)


def evaluate_all(
    dataset: str,
    name: str,
    *,
    root: Path | None = None,
    predictions: Path | None = None,
    settings: Sequence[str] = (),
) -> Converted:
    """Scores the predictions of `name` under every protocol that has a name, into a table beside the plain report.

    Args:
        dataset: its name.
        name: of the predictions.
        root: of the dataset's tree.
        predictions: the file.
        settings: of all protocols: `resamples` alone, as they would not be those protocols with others.

    Raises:
        ConfigError: another setting.
        MatchkitError: no predictions, or predictions that fit no protocol.
        DatasetError: the dataset can serve no protocol.
    """
    protocols = _protocols(settings)
    found = Predictions.load(predictions or predictions_path(dataset, name))
    data = open_dataset(dataset, root)
    split = str(found.made_by["split"])
    conversion = convert(_matched(data, found), data.images, found, protocols)
    path = _beside(dataset, name, f"{ALL}.json")
    conversion.save(path)
    markdown = path.with_suffix(".md")
    markdown.write_text(_markdown(f"{name} on {dataset}, {split}", conversion))
    return Converted(path, markdown, conversion)


def _protocols(settings: Sequence[str]) -> list[EvalProtocol]:
    given = parse_overrides(settings)
    others = [key for key in given if key not in OF_ALL]
    if others:
        raise ConfigError(
            f"--protocol {ALL} takes --set {OF_ALL[0]}=N alone: with another {others[0]} they are not those protocols. "
            "Run: matchkit evaluate --protocol NAME"
        )
    shared: dict[str, Any] = {key: value for key, value in told("evaluate", settings).values.items() if key in OF_ALL}
    return [build_protocol(PRESETS.params(name) | shared, where=f"protocol {name}") for name in PRESETS.table()]


def _with_digest(protocol: EvalProtocol) -> EvalProtocol:
    """The protocol with the digest of the list of its pairs; one that is told is kept, and must be the list's."""
    if not protocol.subset or protocol.subset_digest:
        return protocol
    return replace(protocol, subset_digest=file_digest(Path(protocol.subset)))


def _beside(dataset: str, name: str, file: str) -> Path:
    """A file of scores under a named protocol; the table of reports knows nothing of it."""
    plain = report_path(dataset, name)
    return plain.parent / "protocols" / plain.stem / file


def _markdown(title: str, conversion: Conversion) -> str:
    others = f"'{RESAMPLED[0]}' and '{RESAMPLED[1]}'"
    return (
        f"# {title}: one file of predictions under every protocol\n\n"
        "PCK in percent, of the protocol's own average. In brackets 95 % intervals over resamplings of the images, of "
        f"the averages {others}. What a protocol is: `matchkit list presets`; every fact of it stands in "
        f"{ALL}.json.\n\n{conversion.table()}\n"
    )


def _matched(data: PairDataset, found: Predictions) -> Sequence[Pair]:
    """The pairs of the predictions' split; of partial predictions, those that were matched."""
    pairs = data.pairs(str(found.made_by["split"]))
    return [pair for pair in pairs if pair.id in found.points] if found.made_by.get("limit") else pairs


def _full(
    pairs: Sequence[Pair], images: Mapping[str, ImageRecord], found: Predictions, protocol: EvalProtocol
) -> Report:
    """The scores of a card: at all of its alphas, relative to the box too where every pair has one."""
    boxed = all(pair.target_box is not None for pair in pairs)
    references: tuple[Reference, ...] = ("box", "image") if boxed else ("image",)
    told = replace(protocol, alphas=ALPHAS, references=references, breakdowns=(), resamples=0)
    return score(pairs, images, found, told)


def _schemes(data: PairDataset, pairs: Sequence[Pair], *, strictly: bool) -> dict[str, KeypointScheme]:
    """By category, of those that the dataset knows.

    Raises:
        DatasetError: it does not know one, and all are needed.
    """
    found = {}
    for category in sorted({pair.category for pair in pairs}):
        try:
            found[category] = data.scheme(category)
        except DatasetError as error:
            if strictly:
                raise DatasetError(
                    f"the breakdown geometry needs the groups of keypoints of every category: {error}. "
                    f"{WITHOUT_GEOMETRY}"
                ) from error
    return found

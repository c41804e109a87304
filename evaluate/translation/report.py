"""Reports of warped and translated pictures: each number with the settings behind it, and the table over several.

FID and SWD of this field could not be reproduced because nobody said how they were measured (CoCosNet §7.1, threads 19,
25 and 40); here a score without settings is refused.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from matchkit.core.errors import ConfigError, MatchkitError

Scores = Mapping[str, float]
"""By name, a measure or one at something, e.g. `psnr`, `pck@0.10`, `swd@64`."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How tables show a measure.

    Attributes:
        better: which way; `neither` where that depends.
        decimals: that are shown.
    """

    better: Literal["higher", "lower", "neither"]
    decimals: int


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "pck": Measure("higher", 1),
        "part_agreement": Measure("higher", 3),
        "cycle_error": Measure("lower", 2),
        "forward_backward": Measure("higher", 3),
        "entropy": Measure("neither", 2),
        "copy_score": Measure("neither", 3),
        "psnr": Measure("higher", 2),
        "ssim": Measure("higher", 3),
        "part_colour_error": Measure("lower", 3),
        "semantic": Measure("higher", 3),
        "colour": Measure("higher", 3),
        "texture": Measure("higher", 3),
        "swd": Measure("lower", 1),
        "fd_dino": Measure("lower", 1),
        "fid": Measure("lower", 1),
    }
)
"""Those that are known, in the order of tables. Others come after them, and no row is best in them."""
UNKNOWN = Measure("neither", 3)


@dataclass(frozen=True, slots=True)
class TranslationReport:
    """What warped or translated pictures are worth.

    Attributes:
        scores: by name; NaN where nothing could be measured, infinite for the PSNR of equal pictures.
        counts: of what was measured: pictures, cells, pairs, ...
        settings: by measure, e.g. `settings["swd"]`, as plain JSON: all that its numbers depend on.
        made_by: dataset, split, head and the digests of all that made the pictures, as plain JSON.
        baselines: the scores of what needs no training, by its name: a copy of the exemplar, an untrained head, ...

    Raises:
        ConfigError: a score whose measure has no settings.
    """

    scores: Scores
    counts: Mapping[str, int]
    settings: Mapping[str, Mapping[str, Any]]
    made_by: Mapping[str, Any]
    baselines: Mapping[str, Scores]

    def __post_init__(self) -> None:
        for name in (name for scores in (self.scores, *self.baselines.values()) for name in scores):
            if not self.settings.get(measure_of(name)):
                raise ConfigError(f"score '{name}' needs settings['{measure_of(name)}']: how it was measured")

    def save(self, path: Path) -> None:
        """Writes the report as JSON, the same bytes for the same report; a score that is not finite as text.

        Raises:
            ConfigError: the settings, or what the pictures are made by, are not plain JSON.
        """
        told = {
            "scores": _written(self.scores),
            "counts": dict(self.counts),
            "settings": {measure: dict(settings) for measure, settings in self.settings.items()},
            "made_by": dict(self.made_by),
            "baselines": {name: _written(scores) for name, scores in self.baselines.items()},
        }
        try:
            text = json.dumps(told, indent=2, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"not all settings and origins of the report are plain JSON: {error}") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    @classmethod
    def load(cls, path: Path) -> "TranslationReport":
        """Reads what `save` wrote.

        Raises:
            MatchkitError: the file is missing or not such a report.
        """
        try:
            told = json.loads(path.read_text())
            scores = _read(told.pop("scores"))
            baselines = {name: _read(values) for name, values in told.pop("baselines").items()}
            return cls(scores=scores, baselines=baselines, **told)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MatchkitError(
                f"{path} is not a report of translated pictures ({error}). Run: matchkit translate"
            ) from error


def measure_of(name: str) -> str:
    """The measure of a score, e.g. `pck` of `pck@0.10`."""
    return name.partition("@")[0]


def _written(scores: Scores) -> dict[str, float | str]:
    return {name: float(value) if math.isfinite(value) else str(float(value)) for name, value in scores.items()}


def _read(told: Mapping[str, float | str]) -> dict[str, float]:
    return {name: float(value) for name, value in told.items()}


def markdown_table(reports: Mapping[str, TranslationReport]) -> str:
    """A Markdown table, a row a report in the order given and below them their baselines; the best are bold.

    A baseline of which the reports disagree has a row for each. Beneath the table stand the settings of each measure
    and what was counted, once where all reports have the same, otherwise by report.

    Raises:
        ConfigError: there is no report.
    """
    if not reports:
        raise ConfigError("there is no report to show. Run: matchkit translate")
    rows = _rows(reports)
    names = sorted({name for scores in rows.values() for name in scores}, key=_place)
    columns = [_column(name, [scores.get(name) for scores in rows.values()]) for name in names]
    lines = [
        f"| method | {' | '.join(names)} |",
        "|---|" + "---:|" * len(names),
        *(f"| {' | '.join(cells)} |" for cells in zip(rows, *columns, strict=True)),
    ]
    measures = dict.fromkeys(measure_of(name) for name in names)
    notes = [
        *(
            note
            for measure in measures
            for note in _notes(measure, {name: report.settings.get(measure, {}) for name, report in reports.items()})
        ),
        *_notes("counts", {name: report.counts for name, report in reports.items()}),
    ]
    return "\n".join([*lines, "", *notes])


def _rows(reports: Mapping[str, TranslationReport]) -> dict[str, Scores]:
    rows: dict[str, Scores] = {name: report.scores for name, report in reports.items()}
    for name, report in reports.items():
        for baseline, scores in report.baselines.items():
            others = [other.baselines[baseline] for other in reports.values() if baseline in other.baselines]
            agree = all(_written(other) == _written(scores) for other in others)
            rows[f"*{baseline}*" if agree else f"*{baseline}* ({name})"] = scores
    return rows


def _place(name: str) -> tuple[int, str]:
    known = list(MEASURES)
    return known.index(measure_of(name)) if measure_of(name) in MEASURES else len(known), name


def _column(name: str, values: Iterable[float | None]) -> list[str]:
    measure = MEASURES.get(measure_of(name), UNKNOWN)
    told = [math.nan if value is None else value for value in values]
    known = [value for value in told if not math.isnan(value)]
    best = None
    if known and measure.better != "neither":
        best = max(known) if measure.better == "higher" else min(known)
    shown = ["-" if math.isnan(value) else f"{value:.{measure.decimals}f}" for value in told]
    return [f"**{text}**" if value == best else text for value, text in zip(told, shown, strict=True)]


def _notes(what: str, told: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line of what all reports that have it agree on, or one a report."""
    texts = {name: _text(values) for name, values in told.items() if values}
    if len(set(texts.values())) == 1:
        return [f"- {what}: {next(iter(texts.values()))}"]
    return [f"- {what} ({name}): {text}" for name, text in texts.items()]


def _text(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value if isinstance(value, str) else json.dumps(value)}" for key, value in sorted(values.items())
    )

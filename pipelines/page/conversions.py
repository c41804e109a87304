"""One file of predictions under every protocol that was scored: the conversion tables that lie beside reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALL = "protocols/{}/all.json"
"""Where the table of a method lies, below the reports of its dataset."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A row of a conversion table.

    Attributes:
        facts: the protocol's name, frame, reference, comparison and average.
        source: where the protocol is told.
        scores: by alpha, as text; with an interval where there is one.
        pairs: how many were scored.
        missing: why there is no score; "" where there is.
    """

    facts: tuple[str, ...]
    source: str
    scores: Mapping[str, str]
    pairs: str
    missing: str


@dataclass(frozen=True, slots=True)
class ConversionTable:
    """The table of a method, with the alphas that any of its rows has, ascending."""

    method: str
    alphas: tuple[str, ...]
    rows: tuple[Converted, ...]


def conversion(folder: Path, method: str) -> ConversionTable | None:
    """The table of a method below a dataset's reports; None where there is none, or none that can be read."""
    try:
        told = json.loads((folder / ALL.format(method)).read_text())
        rows = tuple(_row(entry) for entry in told["rows"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    alphas = sorted({alpha for row in rows for alpha in row.scores}, key=float)
    return ConversionTable(method, tuple(alphas), rows)


def _row(told: Mapping[str, Any]) -> Converted:
    protocol = told["protocol"]
    average = str(protocol["average"])
    frame = str(protocol["frame"])
    side = f" {protocol['side']}" if protocol.get("side") else ""
    scores = told["scores"].get(average, {})
    return Converted(
        facts=(str(protocol["name"]), frame + side, protocol["references"][0], protocol["comparison"], average),
        source=str(protocol.get("source", "")),
        scores={alpha: _score(value, told["intervals"].get(alpha, ())) for alpha, value in scores.items()},
        pairs=f"{told['counts']['pairs']:,}" if told["counts"] else "-",
        missing=str(told["missing"]),
    )


def _score(value: float, ends: Sequence[float]) -> str:
    return f"{value:.1f} ({ends[0]:.1f} to {ends[1]:.1f})" if len(ends) == 2 else f"{value:.1f}"

"""Tables of whatever a report holds: its categories, its breakdowns, and fields that the page does not know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from matchkit.evaluate.breakdown import in_order
from matchkit.evaluate.protocol import Average, Reference
from matchkit.pipelines.page.board import INTERVALS_OF, KNOWN, Board, Method, Score, score_of

REFERENCES, AVERAGES = get_args(Reference), get_args(Average)
FEW = 4
"""How many numbers of a list are written out; more are drawn."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table.

    Attributes:
        text: of the cell.
        share: how much of the cell is shaded, in 0..1; None of a cell without shade.
        note: behind the text, and quieter.
        line: the corners of a line as an SVG's `points`, in 100 x 20; "" without a line.
    """

    text: str
    share: float | None = None
    note: str = ""
    line: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its title; the first column is text.

    Attributes:
        title: what it is a table of.
        columns: the header.
        rows: by label.
        foot: a last row, or none.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    foot: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """A category and the PCK of every method that has one, in the order of the leaderboard."""

    name: str
    bars: tuple[tuple[Method, Score], ...]


def category_panels(board: Board) -> list[Panel]:
    """PCK at the middle alpha by category; averaged as the leaderboard is, or over keypoints where that is not told."""
    found: dict[str, list[tuple[Method, Score]]] = {}
    for method in board.methods:
        for name, averages in sorted(method.report["categories"].get(board.reference, {}).items()):
            average = board.average if board.average in averages else INTERVALS_OF
            value = averages.get(average, {}).get(board.alpha)
            if value is not None:
                intervals = method.report["category_intervals"].get(name, {}) if average == INTERVALS_OF else {}
                score = score_of(value, intervals.get(board.reference, {}).get(board.alpha, ()))
                found.setdefault(name, []).append((method, score))
    return [Panel(name, tuple(bars)) for name, bars in sorted(found.items())]


def breakdown_tables(board: Board) -> list[Table]:
    """A table a breakdown: PCK at the middle alpha, a row a method, a column a part; the foot counts keypoints."""
    names = sorted({name for method in board.methods for name in method.report["breakdowns"]})
    return [_breakdown(board, name) for name in names]


def _breakdown(board: Board, name: str) -> Table:
    told = {method.name: method.report["breakdowns"].get(name, {}) for method in board.methods}
    columns = in_order({part for parts in told.values() for part in parts})
    scored = {
        method: tuple(_value(parts.get(part, {}), board) for part in columns) for method, parts in told.items() if parts
    }
    counts = {
        part: entry.get("counts", {}).get("keypoints") for parts in told.values() for part, entry in parts.items()
    }
    return Table(
        title=name,
        columns=("method", *columns),
        rows=tuple(scored.items()),
        foot=("keypoints", *(_plain(counts[part]) for part in columns)),
    )


def _value(part: Mapping[str, Any], board: Board) -> Cell:
    value = part.get("scores", {}).get(board.reference, {}).get(board.average, {}).get(board.alpha)
    if value is None:
        return Cell("-")
    intervals = part.get("intervals", {}) if board.average == INTERVALS_OF else {}
    ends = intervals.get(board.reference, {}).get(board.alpha, ())
    note = f"{ends[0]:.0f} to {ends[1]:.0f}" if ends else ""
    return Cell(f"{value:.1f}", value / 100, note=note)


def further_tables(board: Board) -> list[Table]:
    """What reports hold beyond the known fields: a row a method, a table for each mapping of plain values.

    Of several references, averages and alphas those of the leaderboard are shown; a mapping of plain values by alpha
    is shown whole.
    """
    fields = sorted({name for method in board.methods for name in method.report if name not in KNOWN})
    return [
        table
        for name in fields
        for table in _tables({method.name: method.report.get(name) for method in board.methods}, (name,), board)
    ]


def _tables(told: Mapping[str, Any], path: tuple[str, ...], board: Board) -> list[Table]:
    """Tables of one value a method; methods without it have no row."""
    by_method = {method: _mapping(value) for method, value in told.items() if value is not None and value != {}}
    if not by_method:
        return []
    keys = list(dict.fromkeys(key for value in by_method.values() for key in value))
    deep = {key for value in by_method.values() for key in value if isinstance(value[key], Mapping)}
    chosen = _chosen(keys, board)
    if deep and chosen:
        where = (*path[:-1], f"{path[-1]} at {chosen}") if chosen == board.alpha else path
        return _tables({method: value.get(chosen) for method, value in by_method.items()}, where, board)
    plain = tuple(key for key in keys if key not in deep)
    tables = [_plain_table(by_method, path, plain)] if plain else []
    for key in (key for key in keys if key in deep):
        tables += _tables({method: value.get(key) for method, value in by_method.items()}, (*path, key), board)
    return tables


def _mapping(value: object) -> dict[str, Any]:
    """A value by texts: a list of mappings is numbered, and a plain value stands alone."""
    if isinstance(value, Mapping):
        return {str(key): entry for key, entry in value.items()}
    if isinstance(value, list | tuple) and value and all(isinstance(entry, Mapping) for entry in value):
        return {str(number): entry for number, entry in enumerate(value, 1)}
    return {"value": value}


def _chosen(keys: Sequence[str], board: Board) -> str:
    """The one of some references, averages or alphas that the leaderboard shows; "" where the keys are none."""
    for known, shown in ((REFERENCES, board.reference), (AVERAGES, board.average), (board.alphas, board.alpha)):
        if shown in keys and {*keys} <= {*known}:
            return shown
    return ""


def _plain_table(by_method: Mapping[str, Mapping[str, Any]], path: tuple[str, ...], columns: tuple[str, ...]) -> Table:
    rows = tuple(
        (method, tuple(_cell(value.get(column)) for column in columns))
        for method, value in by_method.items()
        if any(value.get(column) is not None for column in columns)
    )
    return Table(_words(" / ".join(path[1:] or path)), ("method", *map(_words, columns)), rows)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: object) -> Cell:
    """A plain value; many numbers are a line over their order, from the first to the last of them."""
    if isinstance(value, list | tuple) and len(value) > FEW and all(isinstance(entry, int | float) for entry in value):
        low, high = min(value), max(value)
        spread = high - low or 1
        places = [
            f"{100 * row / (len(value) - 1):.1f},{18 - 16 * (entry - low) / spread:.1f}"
            for row, entry in enumerate(value)
        ]
        return Cell(f"{_plain(value[0])} to {_plain(value[-1])}", line=" ".join(places))
    return Cell(_plain(value))


def _plain(value: object) -> str:
    """A value in few characters; what is within a list or a mapping likewise."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(entry)}" for key, entry in value.items())
    return str(value)

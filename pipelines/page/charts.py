"""Where the lines, marks and words of the page's charts lie; templates draw them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matchkit.pipelines.page.board import Board, Method

WIDTH, HEIGHT = 940.0, 340.0
"""Of the curves in units of the drawing."""
LEFT, RIGHT, TOP, BOTTOM = 30.0, 190.0, 12.0, 24.0
"""What stays free about them, for the axes' numbers and the methods' names."""
LINE = 14.0
"""The least distance of two names."""
TENTH = 10
COLOURS = 8
"""How many methods have a colour of their own; those behind them have it again with dashed lines."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The PCK of a method over alpha.

    Attributes:
        method: whose.
        points: (x, y) a mark.
        band: the corners of its interval's area as an SVG's `points`; "" without intervals.
        label: y of the name; it stands right of the last mark.
    """

    method: Method
    points: tuple[tuple[float, float], ...]
    band: str
    label: float


@dataclass(frozen=True, slots=True)
class Curves:
    """All curves, with the axes' ticks as (place, text)."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval on the leaderboard's scale: places in 0..100."""

    low: float
    value: float
    high: float


def curves(board: Board) -> Curves:
    """Lays the curves out; names are moved apart, so that none covers another."""
    height = max(HEIGHT, LINE * len(board.methods) + TOP + BOTTOM)
    right, bottom = WIDTH - RIGHT, height - BOTTOM
    top_percent = ceiling(board)
    last = float(board.alphas[-1])

    def place(alpha: str, percent: float) -> tuple[float, float]:
        x = LEFT + (right - LEFT) * float(alpha) / last
        return round(x, 1), round(bottom - (bottom - TOP) * percent / top_percent, 1)

    drawn = []
    for method in board.methods:
        if not method.scores:
            continue
        in_order = sorted(method.scores.items(), key=lambda entry: float(entry[0]))
        edges = [(alpha, score.low, score.high) for alpha, score in in_order]
        low = [place(alpha, low) for alpha, low, _ in edges if low is not None]
        high = [place(alpha, high) for alpha, _, high in edges if high is not None]
        band = " ".join(f"{x},{y}" for x, y in [*low, *reversed(high)])
        points = tuple(place(alpha, score.value) for alpha, score in in_order)
        drawn.append((method, points, band))
    labels = spread([points[-1][1] for _, points, _ in drawn], least=LINE, low=TOP, high=bottom)
    ticks = range(0, round(top_percent) + 1, 20 if top_percent > 5 * TENTH else TENTH)
    return Curves(
        width=WIDTH,
        height=height,
        left=LEFT,
        right=right,
        bottom=bottom,
        x_ticks=tuple((place(alpha, 0.0)[0], alpha) for alpha in board.alphas),
        y_ticks=tuple((place("0", float(percent))[1], str(percent)) for percent in ticks),
        curves=tuple(Curve(*entry, label) for entry, label in zip(drawn, labels, strict=True)),
    )


def ceiling(board: Board) -> float:
    """The first ten above all scores of the board and the ends of their intervals, in percent."""
    values = [score.high or score.value for method in board.methods for score in method.scores.values()]
    return float(min(100, max(TENTH, TENTH * math.ceil(max(values, default=0) / TENTH))))


def interval_bars(board: Board) -> tuple[dict[str, Bar], float]:
    """The interval at the middle alpha of each method that has one, and the PCK at the scale's right end."""
    scores = {method.name: score for method, score in board.methods_at_alpha}
    end = TENTH * math.ceil(max(score.high or score.value for score in scores.values()) / TENTH) or TENTH
    bars = {
        name: Bar(*(round(100 * value / end, 2) for value in (score.low, score.value, score.high)))
        for name, score in scores.items()
        if score.low is not None and score.high is not None
    }
    return bars, float(end)


def spread(places: Sequence[float], *, least: float, low: float, high: float) -> list[float]:
    """Places moved apart to `least` and kept within low..high, as near to where they were as their order allows."""
    order = sorted(range(len(places)), key=lambda row: places[row])
    moved = [min(max(places[row], low), high) for row in order]
    for row in range(1, len(moved)):
        moved[row] = max(moved[row], moved[row - 1] + least)
    floor = high
    for row in reversed(range(len(moved))):
        moved[row] = min(moved[row], floor)
        floor = moved[row] - least
    found = [0.0] * len(moved)
    for row, value in zip(order, moved, strict=True):
        found[row] = round(value, 1)
    return found

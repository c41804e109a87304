"""What the gate claims of the embedded default, judged by measured rows, and both as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from matchkit.core.records import Pair
from matchkit.evaluate.intervals import Interval, gain_interval, pck_interval

MARGIN = 10.0
"""Points of PCK by which a trained head must be better than its controls."""
Hits = Sequence[Bool[np.ndarray, " _"]]
_ANSWERS = {True: "yes", False: "**no**", None: "not measured"}


@dataclass(frozen=True, slots=True)
class Row:
    """A method with its verdicts on the keypoints of the test pairs.

    Attributes:
        name: of the method.
        chosen: what the validation pairs chose for it.
        hits: by pair.
        interval: of its PCK in percent.
    """

    name: str
    chosen: str
    hits: Hits
    interval: Interval

    @classmethod
    def of(cls, name: str, chosen: str, hits: Hits, pairs: Sequence[Pair]) -> "Row":
        """The row of some verdicts on `pairs`."""
        return cls(name, chosen, hits, pck_interval(hits, pairs))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim, whether it holds (None: that was not measured), and the numbers that say so."""

    claim: str
    holds: bool | None
    found: str


def apart(better: Row, worse: Row) -> Verdict:
    """Whether a method is above another one, and their intervals do not overlap."""
    one, other = better.interval, worse.interval
    return Verdict(
        f"{better.name} above {worse.name}", one.low > other.high, f"from {one.low:.1f} against up to {other.high:.1f}"
    )


def not_worse(fused: Row, parts: Sequence[Row], pairs: Sequence[Pair]) -> Verdict:
    """Whether the fusion is at least as good as the better of its parts."""
    best = max(parts, key=lambda part: part.interval.value)
    gain = gain_interval(best.hits, fused.hits, pairs)
    return Verdict(f"{fused.name} not below {best.name}", gain.value >= 0, f"{shown(gain)} points")


def well_above(trained: Sequence[Row], controls: Sequence[Row]) -> Verdict:
    """Whether the worst of some rows is `MARGIN` points above the best of others."""
    lowest = min(trained, key=lambda row: row.interval.value)
    highest = max(controls, key=lambda row: row.interval.value)
    margin = lowest.interval.value - highest.interval.value
    return Verdict(
        f"{lowest.name} at least {MARGIN:g} points above {highest.name}", margin >= MARGIN, f"{margin:+.1f} points"
    )


def shown(interval: Interval) -> str:
    """A number with its interval, e.g. `20.1 (18.3 to 21.9)`."""
    return f"{interval.value:.1f} ({interval.low:.1f} to {interval.high:.1f})"


def table(rows: Sequence[Row], pairs: Sequence[Pair], *, alpha: float) -> str:
    """The methods as Markdown, with what was measured on above them."""
    images = {image_id for pair in pairs for image_id in (pair.source, pair.target)}
    keypoints = sum(len(pair.source_points) for pair in pairs)
    lines = [
        f"PCK@{alpha:g} in percent, box, a mean over keypoints: {len(pairs):,} pairs, {len(images):,} images, "
        f"{keypoints:,} keypoints. In brackets 95 % intervals over resamplings of the images.",
        "",
        "| method | chosen on validation | PCK |",
        "|---|---|---:|",
    ]
    return "\n".join([*lines, *(f"| {row.name} | {row.chosen} | {shown(row.interval)} |" for row in rows)])


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """The claims as Markdown."""
    lines = [f"| {told.claim} | {_ANSWERS[told.holds]} | {told.found} |" for told in verdicts]
    return "\n".join(["| claim | holds | found |", "|---|---|---|", *lines])


def zero_shot(rows: Mapping[str, Row]) -> list[Verdict]:
    """The claims on single maps.

    Args:
        rows: `position`, `hog-cell`, `hog`, `diffusion`, `diffusion-random`, `vit`, `vit-random` and `fused`.
    """
    above = max((rows["vit"], rows["fused"]), key=lambda row: row.interval.low)
    return [
        apart(rows["diffusion"], rows["diffusion-random"]),
        apart(rows["vit"], rows["vit-random"]),
        apart(rows["diffusion"], rows["hog-cell"]),
        apart(rows["diffusion"], rows["hog"]),
        apart(above, rows["position"]),
    ]

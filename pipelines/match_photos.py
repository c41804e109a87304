"""Points of one photograph found in another, from files: the matches, told and drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from matchkit.core.errors import ConfigError
from matchkit.pipelines.match_picture import match_picture
from matchkit.pipelines.photo_heads import head_file
from matchkit.pipelines.photo_matcher import Looked, Matches, PhotoMatcher
from matchkit.pipelines.photos import Photograph, PointsLike, read_points
from matchkit.pipelines.settings import PARAMS_FILE

FOLDER = Path("matched")
KEPT = 2
"""Matchers that `match` keeps, with their networks."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PointMatch:
    """One point and where it was found.

    Attributes:
        source: (x, y) in the first photograph, in pixels as a viewer shows it.
        target: (x, y) in the second one.
        similarity, margin, cycle, mutual, inside: see `Matches`.
    """

    source: Point
    target: Point
    similarity: float
    margin: float
    cycle: float
    mutual: bool
    inside: bool


@dataclass(frozen=True, slots=True)
class MatchedPhotos:
    """What was found, by what, and where it is drawn."""

    picture: Path
    by: str
    matches: tuple[PointMatch, ...]


def match(
    a: Photograph | Looked,
    b: Photograph | Looked,
    points: PointsLike,
    *,
    head: str | Path | None = None,
    dataset: str | None = None,
    settings: Sequence[str] = (),
    category: str = "",
    device: str = "auto",
) -> Matches:
    """Where in the photograph `b` the points of `a` lie.

        matches = matchkit.match("A.jpg", "B.jpg", [(120, 80), (150, 82)])
        matches.points          # float32 (2, 2), (x, y) in pixels of B.jpg
        matches.mutual          # whether the way back leads to the same cell

    The networks are kept for the next call with the same arguments; `PhotoMatcher` keeps them as long as it lives.

    Args:
        a: a file, or an image of Pillow.
        b: the same.
        points: (n, 2), (x, y) in pixels of `a` as a viewer shows it, the first pixel's centre at 0.
        head: the name of a fitted head, or its file; None takes a fusion that needs no fitting.
        dataset: whose head is meant; None takes the only one of the name.
        settings: `key=value`, over the section `match` of `params.yaml`, and over the parameters of the backbone.
        category: of what both show, for networks whose prompt names it.
        device: on which is computed.

    Raises:
        MatchkitError: a photograph, points or a head that cannot be used; the message says why and what to do.
    """
    file = None if head is None else head_file(head, dataset).absolute()
    matcher = _matcher(file, tuple(settings), device, _stamp(PARAMS_FILE), None if file is None else _stamp(file))
    return matcher.match(a, b, points, category=category)


@lru_cache(maxsize=KEPT)
def _matcher(head: Path | None, settings: tuple[str, ...], device: str, *files: tuple[str, int] | None) -> PhotoMatcher:
    """A matcher; `files` are what it is made of beside, which may change."""
    return PhotoMatcher(head, settings=settings, device=device)


def _stamp(path: Path) -> tuple[str, int]:
    return str(path.absolute()), path.stat().st_mtime_ns if path.exists() else 0


def match_photos(
    a: Path,
    b: Path,
    *,
    at: Sequence[Point] = (),
    points: Path | None = None,
    head: str | None = None,
    dataset: str | None = None,
    out: Path | None = None,
    show: int = 1,
    category: str = "",
    settings: Sequence[str] = (),
    device: str = "auto",
) -> MatchedPhotos:
    """Matches points of a photograph, and draws both photographs with them.

    Args:
        a: the photograph with the points.
        b: the one in which they are sought.
        at: the points, (x, y) in pixels of `a` as a viewer shows it.
        points: a CSV file of more, with columns x and y.
        head: the name of a fitted head, or its file; None takes a fusion that needs no fitting.
        dataset: whose head is meant.
        out: the picture's file.
        show: the number, from 1, of the point whose similarity to all of `b` is drawn.
        category: of what both show, for networks whose prompt names it.
        settings: over `params.yaml`.
        device: on which is computed.

    Raises:
        MatchkitError: a photograph, points or a head that cannot be used.
    """
    picture = out or FOLDER / f"{a.stem}--{b.stem}.png"
    if picture.suffix.lower() not in PICTURES:
        raise ConfigError(f"--out takes the name of a picture, {', '.join(PICTURES)}, not {picture}")
    asked = [*at, *(read_points(points) if points else ())]
    if not 1 <= show <= len(asked):
        raise ConfigError(f"--show takes the number of a point, 1..{len(asked)}, not {show}")
    matcher = PhotoMatcher(head, dataset=dataset, settings=settings, device=device)
    source, target = (matcher.look(photo, category=category) for photo in (a, b))
    found = matcher.match(source, target, asked)
    drawn = match_picture(
        source.photo,
        target.photo,
        asked,
        found,
        shown=show - 1,
        scores=lambda size: matcher.similarity(source, target, asked[show - 1], size=size),
    )
    picture.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(picture)
    return MatchedPhotos(picture, matcher.name, _told(asked, found))


def _told(asked: Sequence[Point], found: Matches) -> tuple[PointMatch, ...]:
    rows = zip(
        asked,
        found.points.tolist(),
        found.similarity.tolist(),
        found.margin.tolist(),
        found.cycle.tolist(),
        found.mutual.tolist(),
        found.inside.tolist(),
        strict=True,
    )
    return tuple(PointMatch(source, (target[0], target[1]), *rest) for source, target, *rest in rows)

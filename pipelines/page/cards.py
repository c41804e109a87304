"""Pairs drawn on their photographs: where every keypoint was found, and where it should have been."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from matchkit.core.geometry import Points
from matchkit.core.records import ImageRecord
from matchkit.pipelines.page.choose import Band, Judged, Share
from matchkit.pipelines.page.photos import Album, Photo

HEIGHT = 200.0
"""Of a card's drawing; both photographs are as high as it."""
GAP = 6.0
"""Between them."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A photograph's place in the drawing."""

    photo: Photo
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Match:
    """A keypoint in the drawing: in the source, where it was found in the target, and where it truly is."""

    name: str
    source: tuple[float, float]
    found: tuple[float, float]
    truth: tuple[float, float]
    right: bool


@dataclass(frozen=True, slots=True)
class Card:
    """A pair as it is drawn.

    Attributes:
        number: of the pair on the page.
        band: what it was drawn from.
        category: of its objects.
        source: the image's id.
        target: the image's id.
        error: the mean error, a share of the reference length.
        width: of the drawing.
        height: of the drawing.
        photos: source and target.
        matches: of its keypoints.
    """

    number: int
    band: Band
    category: str
    source: str
    target: str
    error: float
    width: float
    height: float
    photos: tuple[Placed, Placed]
    matches: tuple[Match, ...]

    @property
    def right(self) -> int:
        """How many keypoints count as correct."""
        return sum(match.right for match in self.matches)


def cards(shares: Sequence[Share], images: Mapping[str, ImageRecord], album: Album) -> list[Card]:
    """Draws the chosen pairs, band after band.

    Raises:
        DatasetError: the file of a photograph is missing or broken.
    """
    chosen = [(share.band, row) for share in shares for row in share.rows]
    return [_card(number, *entry, images, album) for number, entry in enumerate(chosen)]


def _card(
    number: int,
    band: Band,
    row: Judged,
    images: Mapping[str, ImageRecord],
    album: Album,
) -> Card:
    pair = row.pair
    source, target = (album.photo(images[image_id]) for image_id in (pair.source, pair.target))
    left = Placed(source, 0.0, round(HEIGHT * source.width / source.height, 1))
    right = Placed(target, left.width + GAP, round(HEIGHT * target.width / target.height, 1))
    places = zip(
        pair.keypoint_ids,
        _drawn(pair.source_points, left),
        _drawn(row.found, right),
        _drawn(pair.target_points, right),
        row.right.tolist(),
        strict=True,
    )
    return Card(
        number=number,
        band=band,
        category=pair.category,
        source=pair.source,
        target=pair.target,
        error=row.error,
        width=right.x + right.width,
        height=HEIGHT,
        photos=(left, right),
        matches=tuple(Match(*entry) for entry in places),
    )


def _drawn(points: Points, placed: Placed) -> list[tuple[float, float]]:
    """Takes points of the image frame into the drawing, whose pixels have corners at integers."""
    moved = (points.astype(np.float64) + 0.5) * (HEIGHT / placed.photo.height) + np.asarray([placed.x, 0.0])
    return [(round(x, 1), round(y, 1)) for x, y in moved.tolist()]

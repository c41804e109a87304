"""Keypoints looked up in another image: where they are found there and, if it is asked for, the evidence of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int

from matchkit.core.device import one_thread
from matchkit.core.geometry import Points
from matchkit.core.interfaces import Matcher
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.evidence import Evidence, Presence, Presences
from matchkit.evaluate.protocol import Reference
from matchkit.evaluate.seeking import Cells, clues, mutual, near_and_far, seek
from matchkit.pipelines.frames import Frames

Descriptor = Float[torch.Tensor, "d gh gw"]
Table = Float[np.ndarray, "m c"]
"""A row a keypoint: (x, y) in the target's image frame, and what a finder tells of it."""
POINT, CLUES, CYCLE, MUTUAL, LOWEST, HIGHEST, RADII = slice(0, 2), slice(2, 5), 5, 6, 7, 8, 9
"""Columns of `Witness`; from `RADII` on there are those of `Presence.near`, and as many of `Presence.far`."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The keypoints that are looked up for a pair: its own, and perhaps others that only the source shows.

    Attributes:
        names: by the dataset's ids.
        points: (x, y) in the source's image frame, a row a name.
    """

    names: tuple[str, ...]
    points: Float[np.ndarray, "m 2"]


@dataclass(frozen=True, slots=True)
class Query:
    """Places of one image that are sought in a pair's target.

    Attributes:
        pair: whose target it is.
        image: the source, or a posed copy of it.
        source: its descriptors.
        target: the target's.
        places: (x, y) in the grid frame of the image.
        rows: of the keypoints in `Wanted`.
    """

    pair: Pair
    image: str
    source: Descriptor
    target: Descriptor
    places: Float[np.ndarray, "n 2"]
    rows: Int[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found for some pairs, by their ids: see `Predictions`."""

    points: dict[str, Points] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    presences: dict[str, Presence] = field(default_factory=dict)


class Finder:
    """Finds places, and tells nothing beside."""

    def __init__(self, frames: Frames, matcher: Matcher) -> None:
        self.frames = frames
        self.matcher = matcher

    def wanted(self, pair: Pair) -> Wanted:
        """What is to be looked up for a pair."""
        return Wanted(pair.keypoint_ids, pair.source_points)

    def __call__(self, query: Query) -> Table:
        """A row of the table for every place."""
        with one_thread():
            matched = self.matcher.match(query.source, query.target, query.places)
        return self.frames.to_image(query.pair.target, matched)

    def keep(self, pair: Pair, table: Table, found: Found) -> None:
        """Writes down what stands in the table of all that was wanted."""
        found.points[pair.id] = table[: len(pair.source_points), POINT]

    def nothing(self, pair: Pair, found: Found) -> None:
        """Writes down a pair without keypoints."""
        found.points[pair.id] = np.zeros((0, 2), np.float32)


class Witness(Finder):
    """Finds places, with the evidence of it.

    Args:
        frames: of the descriptor maps.
        matcher: in the grid frame.
        presences: the radii within which the similarity of all keypoints is looked at that the sources show; those of
            no pair. None leaves that out.
    """

    def __init__(self, frames: Frames, matcher: Matcher, presences: Presences | None) -> None:
        super().__init__(frames, matcher)
        self._presences = presences

    def wanted(self, pair: Pair) -> Wanted:
        """The pair's keypoints and, where similarities are looked at, those that only the source shows."""
        own = super().wanted(pair)
        if self._presences is None:
            return own
        shown, in_target = (self.frames.images[name].keypoints for name in (pair.source, pair.target))
        others = {name: at for name, at in shown.items() if name not in {*own.names, *in_target}}
        points = np.asarray([*own.points, *others.values()], np.float32).reshape(-1, 2)
        return Wanted((*own.names, *others), points)

    def __call__(self, query: Query) -> Table:
        """A row of the table for every place; there is no way back from those that the target does not show."""
        frames, own = self.frames, query.rows < len(query.pair.source_points)
        with one_thread():
            sought = seek(self.matcher, query.source, query.target, query.places)
            table = np.full((len(query.rows), RADII), np.nan, np.float32)
            table[:, CLUES] = clues(sought)
            scores = sought.cosines.flatten(1)
            table[:, LOWEST], table[:, HIGHEST] = (ends.float().cpu().numpy() for ends in scores.aminmax(dim=1))
            if own.any():
                places = query.places[own]
                back = seek(self.matcher, query.target, query.source, sought.found[own])
                apart = frames.to_image(query.image, back.found) - frames.to_image(query.image, places)
                table[own, CYCLE] = np.linalg.norm(apart, axis=1)
                table[own, MUTUAL] = mutual(back, places)
            table[:, POINT] = frames.to_image(query.pair.target, sought.found)
            return np.concatenate([table, *self._around(query, sought.cosines)], axis=1)

    def _around(self, query: Query, scores: Float[torch.Tensor, "n gh gw"]) -> list[Float[np.ndarray, "n a"]]:
        """The greatest similarities within and outside of the radii."""
        if self._presences is None:
            return []
        pair, height, width = query.pair, *scores.shape[1:]
        corner = self.frames.published_cells(pair.target, np.zeros((1, 2), np.float32))
        own = query.rows < len(pair.source_points)
        centres = np.repeat(corner, len(own), axis=0)
        centres[own] = pair.target_points[query.rows[own]]
        diagonal = np.arange(max(height, width), dtype=np.float32)
        at = self.frames.published_cells(pair.target, np.stack([diagonal, diagonal], 1))
        radii = np.asarray(self._presences.alphas) * self._length(pair)
        return [*near_and_far(scores, Cells(at[:width, 0], at[:height, 1]), centres, radii)]

    def _length(self, pair: Pair) -> float:
        """The longer edge of the target's box or image, in original pixels."""
        if self._presences is not None and self._presences.reference == "box" and pair.target_box is not None:
            xmin, ymin, xmax, ymax = pair.target_box
            return float(max(xmax - xmin, ymax - ymin))
        return float(max(self.frames.images[pair.target].size))

    def keep(self, pair: Pair, table: Table, found: Found) -> None:
        """Writes down the points, the evidence and the similarities of a pair."""
        super().keep(pair, table, found)
        own = table[: len(pair.source_points)]
        similarity, margin, probability = own[:, CLUES].T
        found.evidence[pair.id] = Evidence(similarity, margin, probability, own[:, CYCLE], own[:, MUTUAL] > 0)
        if self._presences is not None:
            lowest, highest = float(table[:, LOWEST].min()), float(table[:, HIGHEST].max())
            near, far = np.split(np.maximum(table[:, RADII:], lowest), 2, axis=1)
            found.presences[pair.id] = Presence(near, far, lowest, highest)

    def nothing(self, pair: Pair, found: Found) -> None:
        """Writes down a pair without keypoints."""
        super().nothing(pair, found)
        none = np.zeros(0, np.float32)
        found.evidence[pair.id] = Evidence(none, none, none, none, np.zeros(0, np.bool_))
        if self._presences is not None:
            empty = np.zeros((0, len(self._presences.alphas)), np.float32)
            found.presences[pair.id] = Presence(empty, empty, 0.0, 0.0)


def presences_of(pairs: Sequence[Pair], images: Mapping[str, ImageRecord], alphas: Sequence[float]) -> Presences | None:
    """The radii for some pairs: about the box where every one with keypoints has one, else about the image.

    None without a radius, and where the dataset does not tell which keypoints its images show.
    """
    counted = [pair for pair in pairs if len(pair.source_points)]
    told = all(images[name].keypoints for pair in counted for name in (pair.source, pair.target))
    if not alphas or not told:
        return None
    reference: Reference = "box" if all(pair.target_box is not None for pair in counted) else "image"
    return Presences(tuple(sorted(alphas)), reference)


def started(pairs: Sequence[Pair], finder: Finder) -> Found:
    """All pairs by their ids in their order, as if none had keypoints."""
    found = Found()
    for pair in pairs:
        finder.nothing(pair, found)
    return found


def in_order(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs with neighbours that share images: a descriptor is then still in memory when it is wanted again."""
    return sorted(pairs, key=lambda pair: (pair.target, pair.source))

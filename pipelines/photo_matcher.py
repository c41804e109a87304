"""Points of one photograph found in another: networks that stay loaded, for as many pairs as come."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from matchkit.core.device import one_thread
from matchkit.core.errors import ConfigError
from matchkit.core.geometry import Points, place
from matchkit.core.interfaces import Maps, PairHead
from matchkit.core.records import Placement
from matchkit.core.similarity import resize, sample
from matchkit.evaluate.seeking import Sought, clues, mutual, seek
from matchkit.extract.images import to_input
from matchkit.pipelines.photo_heads import Loaded, load
from matchkit.pipelines.photos import Photo, Photograph, PointsLike, points_in, read_photo

Descriptor = Float[torch.Tensor, "d gh gw"]
SMALL = 256
"""Pixels of an input's longer side up to which one thread is faster than several, which wait for each other."""
HELD = 128e6
"""Bytes of similarities that are in memory at a time."""
FINER = 8
"""How many times finer than the grid a matcher may search, in each direction."""


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Where the n points of one photograph lie in another, and how far to trust that (see `Evidence`).

    Attributes:
        points: (x, y) in the other photograph, in pixels of it as a viewer shows it, the first pixel's centre at 0. One
            that was found on the bars beside a photograph that is not square lies outside of it.
        similarity: the cosine of the two descriptors, from -1 to 1.
        margin: by how much the greatest cosine is above the greatest one away from it, from 0 to 2.
        cycle: how far from the point the way back ends, in pixels of the first photograph.
        mutual: whether, of the first photograph's cells, the point's own is the one most like the found place.
        inside: whether the point that was found lies in the other photograph.
    """

    points: Float[np.ndarray, "n 2"]
    similarity: Float[np.ndarray, " n"]
    margin: Float[np.ndarray, " n"]
    cycle: Float[np.ndarray, " n"]
    mutual: Bool[np.ndarray, " n"]
    inside: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A photograph after the backbone, which is what takes the time: for one that is matched with many.

    Attributes:
        photo: the photograph.
        maps: that the head reads, (1,t,c,gh,gw) by layer.
        digest: of the spec of its features.
    """

    photo: Photo
    maps: Maps
    digest: str


class PhotoMatcher:
    """Matches photographs with a fitted head, or with a fusion of Stable Diffusion's and DINOv2's features.

        matcher = matchkit.PhotoMatcher("weights/toy/aggregator.safetensors")
        matches = matcher.match("A.jpg", "B.jpg", [(120, 80), (150, 82)])
        matches.points, matches.mutual

    Args:
        head: the name of a fitted head, or its file; None takes the fusion, which needs no fitting.
        dataset: whose head is meant; None takes the only one of the name.
        settings: `key=value`, over the section `match` of `params.yaml`, and over the parameters of the backbone, such
            as `weights`.
        device: on which is computed.

    Raises:
        MatchkitError: no such head, or networks that are not those it was fitted on.
    """

    def __init__(
        self,
        head: str | Path | None = None,
        *,
        dataset: str | None = None,
        settings: Sequence[str] = (),
        device: str = "auto",
    ) -> None:
        self._loaded: Loaded = load(head, dataset=dataset, settings=settings, device=device)
        spec = self._loaded.backbone.spec
        self._rows = [spec.timesteps.index(timestep) for timestep in self._loaded.head.timesteps]
        self._digest = spec.digest()

    @property
    def name(self) -> str:
        """What matches, for a person."""
        return self._loaded.name

    @torch.inference_mode()
    def look(self, photograph: Photograph, *, category: str = "") -> Looked:
        """A photograph through the backbone; `match` takes what this gives in place of the photograph.

        Args:
            photograph: a file, or an image of Pillow.
            category: of what it shows, for networks whose prompt names it.

        Raises:
            DatasetError: no such file, or one that is no image, broken, or of more than 8 bits a channel.
        """
        photo, backbone = read_photo(photograph, category=category), self._loaded.backbone
        placed = (to_input(photo.image, canvas)[0] for canvas in backbone.canvases)
        image, *others = (pixels[None].to(self._loaded.device) for pixels in placed)
        with self._threads():
            maps = backbone(image, [photo.id], *others)
        return Looked(photo, {name: maps[name][:, self._rows] for name in self._loaded.head.layers}, self._digest)

    @torch.inference_mode()
    def match(
        self, a: Photograph | Looked, b: Photograph | Looked, points: PointsLike, *, category: str = ""
    ) -> Matches:
        """Where in `b` the points of `a` lie.

        Args:
            a: a file, an image of Pillow, or what `look` gave.
            b: the same.
            points: (n, 2), (x, y) in pixels of `a` as a viewer shows it, the first pixel's centre at 0.
            category: of what both show, for networks whose prompt names it.

        Raises:
            ConfigError: points that are no pairs, or outside of the photograph.
            DatasetError: a photograph that cannot be read.
        """
        source, target = self._seen(a, category), self._seen(b, category)
        told = points_in(source.photo, points)
        ahead, behind = self._describe(source, target)
        places = self._to_grid(source, told)
        found, evidence, back, returns = (np.zeros((len(told), width), np.float32) for width in (2, 3, 2, 1))
        with one_thread():
            for some in self._shares(len(told)):
                sought = self._seek(ahead, behind, places[some])
                found[some], evidence[some] = sought.found, clues(sought)
                backwards = self._seek(behind, ahead, sought.found)
                back[some], returns[some, 0] = backwards.found, mutual(backwards, places[some])
        there = self._to_image(target, found)
        cycle = np.linalg.norm(self._to_image(source, back) - self._to_image(source, places), axis=1)
        return Matches(
            there,
            similarity=evidence[:, 0],
            margin=evidence[:, 1],
            cycle=cycle.astype(np.float32),
            mutual=returns[:, 0] > 0,
            inside=target.photo.shows(there),
        )

    @torch.inference_mode()
    def dense(
        self, a: Photograph | Looked, b: Photograph | Looked, *, category: str = ""
    ) -> Float[np.ndarray, "h w 2"]:
        """How far, in x and in y, from each pixel of `a` its match in `b` lies.

        The pixel (x, y) of `a` is the point `(x, y) + flow[y, x]` of `b`. It is matched once a cell of the descriptor
        map and interpolated (bilinear) between the cells' middles, so it is smooth where neighbours agree, and means
        nothing between neighbours that were found far apart.
        """
        source, target = self._seen(a, category), self._seen(b, category)
        ahead, behind = self._describe(source, target)
        cells = self._cells(source)
        middles = lattice(source.photo.size, cells)
        places = self._to_grid(source, middles)
        with one_thread():
            found = [self._seek(ahead, behind, places[some]).found for some in self._shares(len(places))]
        apart = self._to_image(target, np.concatenate(found)) - middles
        coarse = torch.from_numpy(apart).reshape(1, cells[1], cells[0], 2).movedim(3, 1)
        width, height = source.photo.size
        return resize(coarse, (height, width))[0].movedim(0, 2).contiguous().numpy()

    @torch.inference_mode()
    def similarity(
        self,
        a: Photograph | Looked,
        b: Photograph | Looked,
        point: PointsLike,
        *,
        size: tuple[int, int] | None = None,
        category: str = "",
    ) -> Float[np.ndarray, "h w"]:
        """The cosine of one point of `a` with all of `b`, interpolated (bilinear) between the cells' middles.

        Args:
            a: a file, an image of Pillow, or what `look` gave.
            b: the same.
            point: (x, y) in pixels of `a`.
            size: (width, height) of the map, which covers all of `b`; None takes that of `b`.
            category: of what both show.
        """
        source, target = self._seen(a, category), self._seen(b, category)
        told = points_in(source.photo, np.asarray(point, np.float32)[None])
        ahead, behind = self._describe(source, target)
        scores = self._seek(ahead, behind, self._to_grid(source, told)).cosines
        width, height = size or target.photo.size
        middles = self._to_grid(target, lattice(target.photo.size, (width, height)))
        sampled = sample(scores, torch.from_numpy(middles).to(scores.device))
        return sampled[:, 0].reshape(height, width).float().cpu().numpy()

    def _seen(self, given: Photograph | Looked, category: str) -> Looked:
        if not isinstance(given, Looked):
            return self.look(given, category=category)
        if given.digest != self._digest:
            raise ConfigError(f"{given.photo.name} was looked at by another matcher's networks: give the photograph")
        return given

    def _describe(self, source: Looked, target: Looked) -> tuple[Descriptor, Descriptor]:
        head, both = self._loaded.head, (source, target)
        with self._threads():
            if isinstance(head, PairHead):
                maps = {name: torch.cat([seen.maps[name] for seen in both]) for name in head.layers}
                ahead, behind = head.describe_pair(maps, [seen.photo.id for seen in both])
            else:
                ahead, behind = (head.describe(seen.maps, [seen.photo.id])[0] for seen in both)
        return ahead, behind

    def _threads(self) -> AbstractContextManager[None]:
        """On how many threads the networks compute."""
        return one_thread() if max(self._loaded.backbone.spec.input_size) <= SMALL else nullcontext()

    def _seek(self, source: Descriptor, target: Descriptor, places: Points) -> Sought:
        return seek(self._loaded.matcher, source, target, places)

    def _shares(self, count: int) -> list[slice]:
        """The points, in shares whose similarities fit into memory together."""
        height, width = self._loaded.head.grid
        size = max(1, int(HELD / (4 * height * width * FINER**2)))
        return [slice(start, start + size) for start in range(0, count, size)]

    def _placement(self, seen: Looked) -> Placement:
        spec = self._loaded.backbone.spec
        return place(seen.photo.size, spec.input_size, fit=spec.fit)

    def _to_grid(self, seen: Looked, points: Points) -> Points:
        return self._loaded.rule.to_grid(points, self._placement(seen), self._loaded.head.grid)

    def _to_image(self, seen: Looked, points: Points) -> Points:
        return self._loaded.rule.to_image(points, self._placement(seen), self._loaded.head.grid)

    def _cells(self, seen: Looked) -> tuple[int, int]:
        """How many cells a photograph takes, in x and in y."""
        width, height = seen.photo.size
        corners = self._to_grid(seen, np.asarray([[-0.5, -0.5], [width - 0.5, height - 0.5]], np.float32))
        across, down = np.maximum(1, np.rint(corners[1] - corners[0])).astype(int).tolist()
        return across, down


def lattice(size: tuple[int, int], cells: tuple[int, int]) -> Float[np.ndarray, "n 2"]:
    """The middles, row by row, of (across, down) equal cells of an image of (width, height) pixels, as (x, y)."""
    xs, ys = ((np.arange(count) + 0.5) * side / count - 0.5 for side, count in zip(size, cells, strict=True))
    return np.stack([np.tile(xs, len(ys)), np.repeat(ys, len(xs))], axis=1).astype(np.float32)

"""Two backbones side by side: the unit descriptors of one map each, joined with a weight, and matched as one.

Source: Zhang et al., A Tale of Two Features, NeurIPS 2023 (arXiv 2305.15347), eq. 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float

from matchkit.cache.pairs import MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.device import one_thread
from matchkit.core.geometry import Points, grid_to_image, image_to_grid, place
from matchkit.core.interfaces import ImageHead
from matchkit.core.records import Pair, PairDataset
from matchkit.core.similarity import resize, unit
from matchkit.evaluate.matchers import Nearest, NearestParams
from matchkit.evaluate.pck import hits
from matchkit.evaluate.predictions import Predictions

WEIGHTS = tuple(tenths / 10 for tenths in range(1, 10))
"""Weights of the first map that are tried; the second has the rest."""
_LIMIT = 2_000_000_000
"""Bytes of maps that are held of each store."""

Part = tuple[ImageHead, FeatureStore]


@dataclass(frozen=True, slots=True)
class Fused:
    """The weight of the first map that the validation pairs chose, and the points of the pairs asked for."""

    weight: float
    predictions: Predictions


class Fusion:
    """The joined descriptors of a dataset's images, on the larger of two grids.

    Args:
        parts: two heads, each with the store that it reads; both stores have one input size and one fit.
        dataset: whose pairs are matched.
    """

    def __init__(self, parts: tuple[Part, Part], dataset: PairDataset) -> None:
        self._images = dataset.images
        self._spec = parts[0][1].spec
        self._grid = max(head.grid for head, _ in parts)
        self._read = [
            (head, MapCache(store, layers=head.layers, timesteps=head.timesteps, limit=_LIMIT)) for head, store in parts
        ]
        self._held: dict[str, tuple[torch.Tensor, ...]] = {}

    def choose(self, validation: Sequence[Pair], test: Sequence[Pair], *, alpha: float) -> Fused:
        """Tries `WEIGHTS` on the validation pairs, box PCK a keypoint, and matches the test pairs with the best."""

        def correct(weight: float) -> int:
            found = Predictions(self.match(validation, weight=weight), {})
            told = hits(validation, self._images, found, alpha=alpha, reference="box")
            return sum(int(verdicts.sum()) for verdicts in told)

        weight = max(WEIGHTS, key=correct)
        return Fused(weight, Predictions(self.match(test, weight=weight), {}))

    def match(self, pairs: Sequence[Pair], *, weight: float) -> dict[str, Points]:
        """The nearest neighbours, (x, y) in the target's image frame by pair id; `weight` is that of the first map."""
        matcher, found = Nearest(NearestParams()), {}
        for pair in pairs:
            source, target = (
                place(self._images[end].size, self._spec.input_size, fit=self._spec.fit)
                for end in (pair.source, pair.target)
            )
            points = image_to_grid(pair.source_points, source, self._grid)
            with one_thread():
                one, other = (self._describe(end, weight=weight) for end in (pair.source, pair.target))
                matched = matcher.match(one, other, points)
            found[pair.id] = grid_to_image(matched, target, self._grid)
        return found

    def _describe(self, image_id: str, *, weight: float) -> Float[torch.Tensor, "d gh gw"]:
        if image_id not in self._held:
            maps = (head.describe(cache.batch([image_id]), [image_id]) for head, cache in self._read)
            self._held[image_id] = tuple(
                unit(resize(described, self._grid)[0].movedim(0, -1)).movedim(-1, 0) for described in maps
            )
        first, second = self._held[image_id]
        return torch.cat([weight * first, (1 - weight) * second])

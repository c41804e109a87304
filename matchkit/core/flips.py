"""A pair's variants with one or both of its images mirrored, for training.

Source: Zhang et al., Telling Left from Right, CVPR 2024 (arXiv 2311.17034), the pose-variant augmentation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.geometry import posed_points
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.poses import posed_id
from matchkit.core.records import ImageRecord, Pair

Visible = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class FlipWeights:
    """How much each variant counts in a pair's loss, where the pair itself counts 1; one of weight 0 is not made.

    Attributes:
        single_flip: the mirrored source and the target. Published: 1, which the released code never uses.
        double_flip: both images mirrored. Published: 1.
        self_flip: the mirrored source and the source. Published: 0.25.
    """

    single_flip: float = 0.0
    double_flip: float = 0.0
    self_flip: float = 0.0

    def __post_init__(self) -> None:
        if min(self.single_flip, self.double_flip, self.self_flip) < 0:
            raise ConfigError("the weights of flips must not be negative")

    @property
    def any(self) -> bool:
        """Whether there are variants at all."""
        return max(self.single_flip, self.double_flip, self.self_flip) > 0


class Flips:
    """Makes the variants of pairs.

    Args:
        weights: of the variants.
        images: the dataset's images by id.
        schemes: of the pairs' categories: a mirrored left paw is a right paw.
    """

    def __init__(
        self, weights: FlipWeights, images: Mapping[str, ImageRecord], schemes: Mapping[str, KeypointScheme]
    ) -> None:
        self._weights = weights
        self._images = images
        self._schemes = schemes

    def __call__(self, pair: Pair) -> list[tuple[float, Pair]]:
        """The variants with their weights; one without a keypoint in common is left out."""
        source = self._visible(pair.source, pair.keypoint_ids, pair.source_points)
        target = self._visible(pair.target, pair.keypoint_ids, pair.target_points)
        flipped = self._mirrored(source, pair.source, pair.category)
        flipped_target = self._mirrored(target, pair.target, pair.category)
        of_flipped = replace(pair, source=posed_id(pair.source, "hflip"), source_box=None)
        box = self._mirrored_box(pair.target_box, pair.target)
        twice = replace(of_flipped, target=posed_id(pair.target, "hflip"), target_box=box)
        variants = (
            (self._weights.single_flip, _shared(of_flipped, flipped, target)),
            (self._weights.double_flip, _shared(twice, flipped, flipped_target)),
            (
                self._weights.self_flip,
                _shared(replace(of_flipped, target=pair.source, target_box=pair.source_box), flipped, source),
            ),
        )
        return [(weight, variant) for weight, variant in variants if weight and variant.keypoint_ids]

    def copies(self, pairs: Sequence[Pair]) -> list[str]:
        """The ids of all mirrored copies that the variants of some pairs may need."""
        ids = {pair.source for pair in pairs} if self._weights.any else set()
        if self._weights.double_flip:
            ids |= {pair.target for pair in pairs}
        return [posed_id(image_id, "hflip") for image_id in sorted(ids)]

    def _visible(self, image_id: str, names: Sequence[str], points: Float[np.ndarray, "n 2"]) -> Visible:
        """All keypoints that an image shows, or those of the pair where the dataset does not tell."""
        told = self._images[image_id].keypoints
        return told or {name: (float(x), float(y)) for name, (x, y) in zip(names, points, strict=True)}

    def _mirrored(self, visible: Visible, image_id: str, category: str) -> Visible:
        """The keypoints of the mirrored image, by what they then are."""
        if not visible:
            return {}
        points = posed_points(np.array(list(visible.values()), np.float32), self._images[image_id].size, "hflip")
        partner = self._schemes[category].partner
        return {partner(name): (float(x), float(y)) for name, (x, y) in zip(visible, points, strict=True)}

    def _mirrored_box(
        self, box: tuple[float, float, float, float] | None, image_id: str
    ) -> tuple[float, float, float, float] | None:
        if box is None:
            return None
        right = float(self._images[image_id].size[0] - 1)
        return right - box[2], box[1], right - box[0], box[3]


def _shared(pair: Pair, source: Visible, target: Visible) -> Pair:
    """The pair with the keypoints that are in both."""
    names = tuple(name for name in source if name in target)
    of_source, of_target = (
        np.array([visible[name] for name in names], np.float32).reshape(-1, 2) for visible in (source, target)
    )
    return replace(pair, keypoint_ids=names, source_points=of_source, target_points=of_target)

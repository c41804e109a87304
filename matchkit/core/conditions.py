"""The other domain of a photograph: its pose, its parts, its edges; what a picture is translated from.

Source: Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571). A condition is kept in the image frame of its photograph,
pixel for pixel, and is put into an input as the photograph is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.records import PairDataset

ConditionKind = Literal["pose", "mask", "edge"]
LABELS = "labels"
"""The one channel of a mask: at each pixel the number of its class."""


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """What a dataset's conditions of a kind are made of.

    Attributes:
        kind: `pose`, `mask` or `edge`.
        channels: their names, as they are rendered and kept; of a mask `labels` alone.
        smooth: whether a channel is resized bilinearly; the others take the nearest pixel.
        outside: the value of each channel beyond the photograph, on the bars of a letterbox.
        classes: of a mask, the names of its labels 0, 1, 2, ...; empty for the other kinds.

    Raises:
        ConfigError: not as many of one as of the other, or a mask of other channels than `labels`.
    """

    kind: ConditionKind
    channels: tuple[str, ...]
    smooth: tuple[bool, ...]
    outside: tuple[float, ...]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.channels) == len(self.smooth) == len(self.outside) > 0:
            raise ConfigError(f"a condition's channels, smooth and outside must be of one length: {self}")
        if (self.kind == "mask") != bool(self.classes) or (self.classes and self.channels != (LABELS,)):
            raise ConfigError(f"a mask has the one channel '{LABELS}' and its classes, any other condition neither")

    @property
    def width(self) -> int:
        """Channels that a network is given: of a mask one a class, one-hot."""
        return len(self.classes) or len(self.channels)


@runtime_checkable
class ConditionedDataset(PairDataset, Protocol):
    """Photographs with conditions, and what is known of which may be an exemplar for which."""

    @property
    def kinds(self) -> tuple[ConditionKind, ...]:
        """The kinds of conditions that there are."""
        ...

    def condition_spec(self, kind: ConditionKind) -> ConditionSpec:
        """What the conditions of a kind are made of, the same for all images.

        Raises:
            DatasetError: the dataset has no conditions of the kind.
        """
        ...

    def condition(self, image_id: str, kind: ConditionKind) -> Float[np.ndarray, "c h w"]:
        """The condition of an image in its image frame, float32: [0, 1], of a mask the labels.

        Raises:
            DatasetError: no such image or kind, or its file is missing or malformed; names the file, and the line.
        """
        ...

    def group(self, image_id: str) -> str:
        """Names what an image shows: images of one group are exemplars of each other whose truth is known.

        It is the image's own id where nothing is known.
        """
        ...

    def of_split(self, split: str) -> tuple[str, ...]:
        """The ids of a split's images: `trn`, `val` or `test`.

        Raises:
            DatasetError: an unknown or empty split.
        """
        ...

    def exemplars(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """The dataset's own list of exemplars for the images of a split, the nearest first.

        Raises:
            DatasetError: it has none, or its list is malformed.
        """
        ...

"""The other domain of a photograph: its pose, its parts, its edges; what a picture is translated from.

Source: Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571). A condition is kept in the image frame of its photograph,
pixel for pixel, and is put into an input as the photograph is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.geometry import Fit
from matchkit.core.records import PairDataset
from matchkit.core.spec import FeatureSpec, LayerSpec

ConditionKind = Literal["pose", "mask", "edge"]
KINDS: tuple[ConditionKind, ...] = get_args(ConditionKind)
CONDITION = "condition"
"""What a store of conditions names as its backbone, and its one layer."""
LISTS = ("channels", "smooth", "outside", "classes")
"""What a store's spec keeps of a condition's beside its kind, as JSON."""
MOST_CLASSES: Mapping[str, int] = MappingProxyType({"fp16": 2**11 + 1, "fp32": 2**24 + 1})
"""So many labels 0, 1, 2, ... a number type at rest holds exactly."""
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
        """The condition of an image, or of its mirrored copy `<id>@flip`, in its image frame, float32.

        Values are in [0, 1], those of a mask its labels. A mirrored copy has its own left and right.

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


@runtime_checkable
@runtime_checkable
class Truth(Protocol):
    """What is known of a target and its exemplar together."""

    @property
    def flow(self) -> Float[np.ndarray, "h w 2"]:
        """Where the exemplar shows what each pixel of the target sees, (x, y) in its image frame; NaN where not."""
        ...

    @property
    def picture(self) -> UInt8[np.ndarray, "h w 3"]:
        """What the target's condition and the exemplar make together, in the target's image frame."""
        ...


@runtime_checkable
class KnowsTruth(Protocol):
    """A dataset that can tell what is right."""

    def truth(self, target: str, exemplar: str) -> Truth:
        """What is known of two images.

        Raises:
            DatasetError: no such images, or nothing is known of them together.
        """
        ...

    def labels(self, image_id: str) -> UInt8[np.ndarray, "h w"]:
        """The part that each pixel of an image shows, 0 for the background."""
        ...


def condition_features(spec: ConditionSpec, *, side: int, fit: Fit, dtype: Literal["fp16", "fp32"]) -> FeatureSpec:
    """What a store says that keeps conditions of `spec` in inputs of (side, side) pixels; see `condition_spec_of`.

    Raises:
        ConfigError: a mask of more classes than the numbers of `dtype` tell apart.
    """
    if len(spec.classes) > MOST_CLASSES[dtype]:
        raise ConfigError(
            f"the labels of {len(spec.classes):,} classes are not exact in {dtype}, which has room for "
            f"{MOST_CLASSES[dtype]:,}. Give --set dtype=fp32"
        )
    return FeatureSpec(
        backbone=CONDITION,
        weights="none",
        layers=(LayerSpec(CONDITION, len(spec.channels), (side, side)),),
        timesteps=(0,),
        input_size=(side, side),
        fit=fit,
        dtype=dtype,
        options={"kind": spec.kind, **{name: json.dumps(getattr(spec, name), ensure_ascii=False) for name in LISTS}},
    )


def condition_spec_of(features: FeatureSpec) -> ConditionSpec:
    """What the conditions of a store are made of, exactly as their dataset told it.

    Raises:
        StoreError: they are no conditions.
    """
    kind = features.options.get("kind")
    if features.backbone != CONDITION or kind not in KINDS:
        raise StoreError(f"features of '{features.backbone}' are no conditions. Run: matchkit conditions")
    try:
        channels, smooth, outside, classes = (tuple(json.loads(str(features.options[name]))) for name in LISTS)
        return ConditionSpec(KINDS[KINDS.index(kind)], channels, smooth, outside, classes)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"the spec of these conditions cannot be understood: {error}") from error

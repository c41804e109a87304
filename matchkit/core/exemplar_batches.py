"""Conditions and exemplars as cross-domain heads are given them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float

from matchkit.core.interfaces import Maps, ReadsMaps

PHOTO, LATENT, PARTS = "photo", "latent", "parts"
"""The payloads that are known by name: pixels in [-1, 1], scaled latents of a VAE, and one channel a class, one-hot."""
Batch = TypeVar("Batch", contravariant=True)


@dataclass(frozen=True, slots=True)
class Photographs:
    """Some photographs with all that is kept of them.

    Attributes:
        ids: of the b images.
        maps: {layer: (b,t,c,gh,gw)}.
        condition: their own conditions, one channel a class for a mask; (b,0,h,w) where they are not known.
        payloads: what can be warped, by name, on any grids.
    """

    ids: tuple[str, ...]
    maps: Maps
    condition: Float[torch.Tensor, "b _ _ _"]
    payloads: Mapping[str, Float[torch.Tensor, "b _ _ _"]]


@dataclass(frozen=True, slots=True)
class ExemplarBatch:
    """Some conditions, each with an exemplar, as a cross-domain head trains on them.

    Attributes:
        targets: the images that the conditions are of: known in training alone.
        exemplars: one for each.
        same: whether an exemplar shows the target's own thing: a pseudo exemplar, whose translation is known.
        number: of the batch in its fit; whatever is drawn at random for it depends on this.
        progress: the share of the fit's steps that lie behind.
    """

    targets: Photographs
    exemplars: Photographs
    same: Bool[torch.Tensor, " b"]
    number: int = 0
    progress: float = 1.0


class Trains(ReadsMaps, Protocol[Batch]):
    """What a fit asks of that which it fits, on batches of one kind."""

    def loss(self, batch: Batch) -> dict[str, Float[torch.Tensor, ""]]:
        """The terms of the loss by name; `total` is what is minimised."""
        ...

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """Parameter groups for the optimiser; `rate` is a factor of the learning rate."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The parameters by name."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Takes the parameters back, strictly."""
        ...

    def to(self, device: torch.device) -> object:
        """Moves the parameters to a device."""
        ...


@runtime_checkable
class ExemplarHead(ReadsMaps, Protocol):
    """A head between two domains: it is fitted on conditions and exemplars instead of pairs with keypoints."""

    @property
    def payloads(self) -> tuple[str, ...]:
        """The payloads without which it cannot be fitted."""
        ...

    def loss(self, batch: ExemplarBatch) -> dict[str, Float[torch.Tensor, ""]]:
        """The terms of the loss by name; `total` is what is minimised."""
        ...

    def quality(self, batch: ExemplarBatch) -> float:
        """By which a fit chooses, higher is better: of pairs whose truth is known from their targets."""
        ...

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """Parameter groups for the optimiser."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The parameters by name."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Takes the parameters back, strictly."""
        ...

    def to(self, device: torch.device) -> object:
        """Moves the parameters to a device."""
        ...

"""The protocols by which the rooms meet. A class stands in its room; what it must be able to do stands here.

Shape letters: b batch, t timesteps, c channels, d descriptor width, h w input pixels, gh gw grid cells, n keypoints.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int

from matchkit.core.records import Canvas
from matchkit.core.spec import FeatureSpec

Maps = Mapping[str, Float[torch.Tensor, "..."]]
"""Feature maps by layer name: (t,c,gh,gw) of one image, or (b,t,c,gh,gw) of a batch."""


@runtime_checkable
class Backbone(Protocol):
    """Images in, feature maps out. It normalises for itself, and its noise never depends on the batch."""

    @property
    def spec(self) -> FeatureSpec:
        """All that makes these features what they are."""
        ...

    @property
    def canvases(self) -> tuple[Canvas, ...]:
        """The inputs that it takes of each photograph, mostly one; the first is that of the spec."""
        ...

    def __call__(
        self, images: Float[torch.Tensor, "b 3 _ _"], ids: Sequence[str], *others: Float[torch.Tensor, "b 3 _ _"]
    ) -> dict[str, Float[torch.Tensor, "b t _ _ _"]]:
        """The maps of images in [0, 1], on its own device, in the type that is stored.

        Args:
            images: on the first canvas.
            ids: of the images, which seed whatever is drawn at random.
            others: the same images on the other canvases.
        """
        ...


@runtime_checkable
class PromptableBackbone(Protocol):
    """A frozen network whose maps depend on a prompt that can be learnt: all is differentiable in the prompt alone."""

    @property
    def spec(self) -> FeatureSpec:
        """The layers that it gives, their grids, and the input that the latents are of."""
        ...

    @property
    def token_width(self) -> int:
        """Width of the text encoder's input embeddings."""
        ...

    @property
    def most_tokens(self) -> int:
        """How many tokens there is room for between the first and the last one."""
        ...

    @property
    def states_shape(self) -> tuple[int, int]:
        """(l, c): how many states the cross-attentions are given, and how wide these are."""
        ...

    def drawn_tokens(self, count: int, draw: torch.Generator) -> Float[torch.Tensor, "n d"]:
        """Input embeddings of random words, with those of their positions, from the second position on."""
        ...

    def told_tokens(self, prompt: str, count: int) -> Float[torch.Tensor, "n d"]:
        """Input embeddings of a prompt in words, filled up as the text encoder does, from the second position on."""
        ...

    def states_of_tokens(self, tokens: Float[torch.Tensor, "b n d"]) -> Float[torch.Tensor, "b l c"]:
        """The states of input embeddings that stand between the first and the last token."""
        ...

    def states_of_text(self, prompt: str) -> Float[torch.Tensor, "1 l c"]:
        """The states of a prompt in words."""
        ...

    def maps(
        self,
        latents: Float[torch.Tensor, "b zc zh zw"],
        ids: Sequence[str],
        states: Float[torch.Tensor, "_ l c"],
        *,
        timestep: int,
        ensemble: int = 1,
    ) -> dict[str, Float[torch.Tensor, "b _ _ _"]]:
        """The maps of clean, scaled latents, in fp32.

        Args:
            latents: of the images.
            ids: of the images, which seed the noise.
            states: of the prompt, one for every image or one for all.
            timestep: to which the latents are noised.
            ensemble: draws of the noise, whose maps are averaged.
        """
        ...


@dataclass(frozen=True, slots=True)
class BatchPair:
    """Two images of a batch and the keypoints that both show.

    Attributes:
        source, target: the rows of the images in the batch's maps.
        source_points, target_points: the n keypoints as (x, y) in the grid frame.
        source_cells, target_cells: the flat row-major cells of these on the batch's grid.
        target_side: the longer side of the target's box in cells, of the image where it has no box.
        weight: how much this counts beside the pair's other variants.
        variants: the same pair with one or both of its images mirrored.
    """

    source: int
    target: int
    source_points: Float[torch.Tensor, "n 2"]
    target_points: Float[torch.Tensor, "n 2"]
    source_cells: Int[torch.Tensor, " n"]
    target_cells: Int[torch.Tensor, " n"]
    target_side: float
    weight: float = 1.0
    variants: tuple["BatchPair", ...] = ()


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Some pairs with their maps, as a head trains on them.

    Every image of the batch stands once in `maps`, however many pairs share it; a pair points at its two rows.

    Attributes:
        maps: {layer: (b,t,c,gh,gw)} of the b distinct images.
        pairs: of these images.
        ids: of the images, in the order of the rows.
        grid: (height, width) of the head's descriptor map, in cells.
        number: of the batch in its fit; whatever a head draws at random for it depends on this.
    """

    maps: Maps
    pairs: tuple[BatchPair, ...]
    ids: tuple[str, ...]
    grid: tuple[int, int]
    number: int = 0


@runtime_checkable
class ReadsMaps(Protocol):
    """What every head tells of itself."""

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the descriptor map, in cells."""
        ...

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers it reads."""
        ...

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The timesteps it reads, in the order of the axis t of the maps it takes."""
        ...

    def config(self) -> dict[str, Any]:
        """What to build an equal head from, as plain JSON data."""
        ...


@runtime_checkable
class ImageHead(ReadsMaps, Protocol):
    """A head that describes an image whatever it is matched with."""

    def describe(self, maps: Maps, ids: Sequence[str]) -> Float[torch.Tensor, "b d gh gw"]:
        """Descriptors of a batch of maps (b,t,c,gh,gw).

        They are not normalised: a matcher samples first and normalises then, as the published code does.

        Args:
            maps: of the images.
            ids: of the images, for a head that goes by their category or draws at random for each.
        """
        ...


@runtime_checkable
class PairHead(ReadsMaps, Protocol):
    """A head whose descriptors mean something only beside those of the other image of the pair."""

    def describe_pair(self, maps: Maps, ids: Sequence[str]) -> Float[torch.Tensor, "2 d gh gw"]:
        """Descriptors of the source and the target of a pair, from their maps (2,t,c,gh,gw); not normalised."""
        ...


Head = ImageHead | PairHead
"""Feature maps to descriptors."""


@runtime_checkable
class PromptedHead(Protocol):
    """A head that is given a backbone before it can do anything else."""

    @property
    def network(self) -> Mapping[str, Any]:
        """The parameters of the backbone that it asks for."""
        ...

    def take(self, backbone: PromptableBackbone) -> None:
        """Takes the backbone that it is to prompt.

        Raises:
            WeightsError: its prompt does not fit the backbone's text encoder.
        """
        ...


@runtime_checkable
class TrainableHead(ReadsMaps, Protocol):
    """A head whose parameters are fitted by gradient steps on batches of pairs."""

    def loss(self, batch: PairBatch) -> dict[str, Float[torch.Tensor, ""]]:
        """The terms of the loss by name; `total` is what is minimised."""
        ...

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """Parameter groups for the optimiser."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The parameters by the names of the published weights."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Takes the parameters back, strictly."""
        ...

    def to(self, device: torch.device) -> object:
        """Moves the parameters to a device."""
        ...


@runtime_checkable
class Matcher(Protocol):
    """Where in the target lie the source's keypoints?"""

    def match(
        self,
        source: Float[torch.Tensor, "d gh gw"],
        target: Float[torch.Tensor, "d gh gw"],
        points: Float[np.ndarray, "n 2"],
    ) -> Float[np.ndarray, "n 2"]:
        """Takes (x, y) keypoints of the source's grid frame to points of the target's grid frame."""
        ...

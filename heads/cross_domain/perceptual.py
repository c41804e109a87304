"""How alike two pictures are to a network that was trained to see: VGG-19, or another one that gives maps by depth.

Source: Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571); VGG-19 of Simonyan and Zisserman, ICLR 2015 (arXiv
1409.1556); CoCosNet §3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from matchkit.core.errors import ConfigError, UnknownNameError, nearest_name
from matchkit.heads.cross_domain.contextual import ROWS, contextual
from matchkit.heads.cross_domain.vgg_weights import BLOCKS, read_vgg
from matchkit.heads.cross_domain.weighting import weighted_mean

Features = Mapping[str, Float[torch.Tensor, "b _ _ _"]]
"""Maps of pictures by the layer's name, from shallow to deep."""
READ = 2
"""The convolution of each block after which VGG-19 is read, and after which its last block ends here."""
SMALLEST = 16
"""Pixels a side that leave one cell of the deepest map."""
CONTEXT_LAYERS = 3
"""How many layers, the deepest ones, the published context loss looks at; four with its `use_22ctx`."""


@runtime_checkable
class PictureFeatures(Protocol):
    """Any frozen network that the losses may see with."""

    def __call__(self, images: Float[torch.Tensor, "b 3 h w"]) -> dict[str, Float[torch.Tensor, "b _ _ _"]]:
        """Maps of images in [0, 1] from shallow to deep, differentiable in the images."""
        ...


@dataclass(frozen=True, slots=True)
class _Pixels:
    """What a network was trained on: (value - mean) * scale a channel, of channels in the order red, green, blue."""

    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    reversed: bool


Trained = Literal["caffe", "torchvision"]
PIXELS: dict[Trained, _Pixels] = {
    "caffe": _Pixels((0.48501961, 0.45795686, 0.40760392), (255.0, 255.0, 255.0), reversed=True),
    "torchvision": _Pixels((0.485, 0.456, 0.406), (1 / 0.229, 1 / 0.224, 1 / 0.225), reversed=False),
}


class Vgg19(nn.Module):
    """VGG-19 up to its block 5, read after the second ReLU of each: `r12`, `r22`, `r32`, `r42`, `r52`.

    Args:
        trained: by whom, which says what pixels it knows. The published losses are those of Caffe's weights; a file
            with torchvision's names may hold either's.
    """

    def __init__(self, *, trained: Trained = "caffe") -> None:
        super().__init__()
        self.pixels = PIXELS[trained]
        self.blocks = nn.ModuleList()
        channels = 3
        for width, count in BLOCKS:
            kept = READ if len(self.blocks) == len(BLOCKS) - 1 else count
            widths = [channels, *[width] * kept]
            self.blocks.append(
                nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
            )
            channels = width
        self.requires_grad_(requires_grad=False)

    @classmethod
    def load(cls, path: Path, *, trained: Trained = "caffe") -> "Vgg19":
        """The network with weights of a file: safetensors, or tensors alone that `torch.save` wrote.

        Raises:
            WeightsError: no such file, one that could run code, or one that does not hold the weights of VGG-19.
        """
        with torch.device("meta"):
            network = cls(trained=trained)
        wanted = {
            f"conv{block}_{number}": f"blocks.{block - 1}.{number - 1}"
            for block, layers in enumerate(network.blocks, 1)
            for number in range(1, len(list(layers.children())) + 1)
        }
        state = read_vgg(path, list(wanted))
        network.load_state_dict(
            {f"{wanted[name]}.{kind}": values for name, pair in state.items() for kind, values in pair.items()},
            assign=True,
        )
        return network

    def forward(self, images: Float[torch.Tensor, "b 3 h w"]) -> dict[str, Float[torch.Tensor, "b _ _ _"]]:
        """Maps of images in [0, 1], at 1, 1/2, 1/4, 1/8 and 1/16 of their size.

        Raises:
            ConfigError: a side of less than 16 pixels.
        """
        if min(images.shape[2:]) < SMALLEST:
            raise ConfigError(f"VGG-19 needs sides of {SMALLEST} pixels, not {tuple(images.shape[2:])}")
        mean, scale = (images.new_tensor(values)[:, None, None] for values in (self.pixels.mean, self.pixels.scale))
        x = (images - mean) * scale
        x = x.flip(1) if self.pixels.reversed else x
        maps = {}
        for block, layers in enumerate(self.blocks, 1):
            x = functional.max_pool2d(x, 2) if block > 1 else x
            for number, convolution in enumerate(layers.children(), 1):
                x = functional.relu(convolution(x))
                if number == READ:
                    maps[f"r{block}{number}"] = x
        return maps


def feature_loss(
    found: Features, wanted: Features, *, pseudo: Float[torch.Tensor, " b"] | None = None
) -> Float[torch.Tensor, ""]:
    """L_feat: the mean absolute difference of each layer's maps, weighted by depth and summed.

    The deepest layer weighs 1, those before it 1/4, 1/8, 1/16, 1/32, ...

    Args:
        found: of made pictures; the gradient goes here alone.
        wanted: of the photographs that they should be.
        pseudo: 1 for each sample whose photograph is what its exemplar shows, 0 for others, which do not count; None
            if all are.
    """
    total = torch.stack(
        [
            (2.0 ** -(depth + 1) if depth else 1.0) * (found[name] - wanted[name].detach()).abs().mean((1, 2, 3))
            for depth, name in enumerate(reversed(list(wanted)))
        ]
    ).sum(0)
    return weighted_mean(total, pseudo)


def perceptual_loss(found: Features, wanted: Features, *, layer: str) -> Float[torch.Tensor, ""]:
    """L_perc: the mean squared difference of one layer's maps; published with `r42`, for ADE20k `r52`.

    Args:
        found: of made pictures; the gradient goes here alone.
        wanted: of the photographs that belong to their conditions.
        layer: which.

    Raises:
        UnknownNameError: there is no such layer.
    """
    if layer not in wanted:
        there = ", ".join(wanted)
        raise UnknownNameError(f"perceptual loss: no layer '{layer}'.{nearest_name(layer, wanted)} There are: {there}")
    return functional.mse_loss(found[layer], wanted[layer].detach())


def context_loss(
    found: Features,
    exemplar: Features,
    *,
    layers: int = CONTEXT_LAYERS,
    rows: int = ROWS,
    sample: int | None = None,
    draw: torch.Generator | None = None,
) -> Float[torch.Tensor, ""]:
    """L_context: the contextual losses of the deepest layers, weighted by depth and summed.

    They weigh 8, 4, 2, 1, ... from the deepest on; the third is first averaged over 2x2 cells, the fourth over 4x4, ...

    Args:
        found: of made pictures; the gradient goes here alone.
        exemplar: of their exemplars.
        layers: how many; fewer where there are not so many.
        rows: as in `contextual`.
        sample: as in `contextual`.
        draw: as in `contextual`.
    """
    terms = []
    for depth, name in enumerate(list(exemplar)[::-1][:layers]):
        side = 1 << max(depth - 1, 0)
        x, y = (functional.avg_pool2d(maps[name], side) for maps in (found, exemplar))
        terms.append(2.0 ** (3 - depth) * contextual(x, y.detach(), rows=rows, sample=sample, draw=draw))
    return torch.stack(terms).sum()

"""Features of a picture that a loss can look at, differentiable in the picture: DINOv2 where there is no VGG.

CoCosNet §6.2: its perceptual and contextual losses compare features of VGG-19; without its weights the cached
backbone's shallow and deep blocks take their place.
"""

from contextvars import ContextVar
from functools import partial

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from matchkit.extract.backbones.dinov2 import KINDS, PARTS
from matchkit.extract.backbones.tokens import TokenParams
from matchkit.extract.backbones.vit_folder import load
from matchkit.extract.backbones.weights import checksum, locate

Maps = dict[str, Float[torch.Tensor, "b c gh gw"]]


class DinoFeatures:
    """A frozen DINOv2 whose gradients flow to the images; its own weights take none.

    Several threads may call it at the same time.

    Args:
        weights: a folder of transformers, a hub id, or `tiny` for the embedded default.
        device: on which it computes.

    Raises:
        WeightsError: not a Dinov2 folder.

    Attributes:
        names: of the maps, shallow to deep: `block1` is what the first block gives.
        width: channels of each.
        patch: a cell's side in pixels.
        checksum: of its weights.
        device: on which it computes.
    """

    def __init__(self, weights: str = "tiny", *, device: torch.device) -> None:
        folder = locate(weights, embedded="dinov2", marker="config.json", parts=PARTS)
        network = load(folder, TokenParams(weights=weights), kinds=KINDS, what="Dinov2 network")
        network.model.to(device, torch.float32).eval().requires_grad_(requires_grad=False)
        self._call, self._prefix = network.call, network.prefix
        self._mean, self._std = (
            torch.tensor(values, device=device)[:, None, None] for values in (network.mean, network.std)
        )
        self._kept: ContextVar[dict[str, torch.Tensor] | None] = ContextVar("kept", default=None)
        self.names = tuple(f"block{number}" for number in range(1, len(network.blocks) + 1))
        for name, block in zip(self.names, network.blocks, strict=True):
            block.register_forward_hook(partial(self._keep, name))
        self.width, self.patch = network.width, network.patch
        self.checksum = checksum(folder, parts=PARTS)
        self.device = device

    def __call__(self, images: Float[torch.Tensor, "b 3 h w"]) -> Maps:
        """The patch tokens of every block, before the final norm, of images in [0, 1].

        Images of any size: position embeddings are interpolated as DINOv2 does it. A side that is no multiple of the
        patch is brought to the nearest one, bilinearly.
        """
        grid = tuple(max(1, round(side / self.patch)) for side in images.shape[2:])
        size = tuple(cells * self.patch for cells in grid)
        pixels = images.to(self._mean)
        if pixels.shape[2:] != size:
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        kept: dict[str, torch.Tensor] = {}
        token = self._kept.set(kept)
        try:
            self._call((pixels - self._mean) / self._std)
        finally:
            self._kept.reset(token)
        return {name: self._map(tokens, grid) for name, tokens in kept.items()}

    def _keep(self, name: str, module: nn.Module, inputs: object, output: object) -> None:
        kept = self._kept.get()
        if kept is not None:
            tokens = output[0] if isinstance(output, tuple) else output
            assert isinstance(tokens, torch.Tensor)
            kept[name] = tokens

    def _map(self, tokens: Float[torch.Tensor, "b n c"], grid: tuple[int, ...]) -> Float[torch.Tensor, "b c gh gw"]:
        patches: torch.Tensor = tokens[:, self._prefix :].transpose(1, 2).unflatten(2, grid)
        return patches

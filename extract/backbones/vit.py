"""Vision transformers of transformers: DINO, DINOv3, MAE, I-JEPA, BEiT, DeiT, CLIP, SigLIP and their like."""

from collections.abc import Sequence

import torch
from jaxtyping import Float

from matchkit.extract.backbones.tokens import TokenMaps, TokenParams
from matchkit.extract.backbones.vit_folder import KINDS, load
from matchkit.extract.backbones.weights import checksum, locate

PARTS = (".",)


class ViT:
    """Patch tokens of the layers `block0`, `block1`, ..., and the class token `cls`.

    Raises:
        ConfigError: something that the network does not have, or an input that is no multiple of its patch.
        WeightsError: not a folder of a known vision transformer.
    """

    Params = TokenParams

    def __init__(self, params: TokenParams, *, device: torch.device) -> None:
        folder = locate(params.weights, embedded="dinov2", marker="config.json", parts=PARTS)
        network = load(folder, params, kinds=KINDS, what="vision transformer that is known here")
        self._read = TokenMaps(network, params, backbone="vit", weights=checksum(folder, parts=PARTS), device=device)
        self.spec, self.canvases = self._read.spec, self._read.canvases

    def __call__(
        self, images: Float[torch.Tensor, "b 3 h w"], ids: Sequence[str]
    ) -> dict[str, Float[torch.Tensor, "b t c _ _"]]:
        """The maps of images in [0, 1], on the device in the stored type."""
        return self._read(images)

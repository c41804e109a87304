"""Vision transformers of timm: whatever has `blocks`, a patch embedding and a token a patch.

Needs timm: `pip install 'matchkit[timm]'`. The folder is one of timm's own: `config.json` with the architecture, and
`model.safetensors`. A network is built for the input's size, its position embeddings resampled as timm does.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import nn

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.tokens import TokenMaps, TokenParams, Transformer, square
from matchkit.extract.backbones.weights import EMBEDDED, checksum, locate

PARTS = (".",)


class TimmViT:
    """Patch tokens of the layers `block0`, `block1`, ..., and the class token `cls`.

    Raises:
        ConfigError: timm is missing, something that the network does not have, or an input that is no multiple of its
            patch.
        WeightsError: not a folder of timm, or of a network that gives no token a patch.
    """

    Params = TokenParams

    def __init__(self, params: TokenParams, *, device: torch.device) -> None:
        timm = _timm()
        if params.weights == EMBEDDED:
            raise WeightsError(
                "timm: nothing of timm's is embedded: give a folder or a hub id such as timm/NAME as weights"
            )
        folder = locate(params.weights, embedded="", marker="model.safetensors", parts=PARTS)
        network = _transformer(_build(timm, folder, params), folder)
        self._read = TokenMaps(network, params, backbone="timm", weights=checksum(folder, parts=PARTS), device=device)
        self.spec, self.canvases = self._read.spec, self._read.canvases

    def __call__(
        self, images: Float[torch.Tensor, "b 3 h w"], ids: Sequence[str]
    ) -> dict[str, Float[torch.Tensor, "b t c _ _"]]:
        """The maps of images in [0, 1], on the device in the stored type."""
        return self._read(images)


def _timm() -> Any:  # noqa: ANN401 - a library that need not be there
    try:
        return import_module("timm")
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch ends in a RuntimeError
        raise ConfigError(f"backbone timm needs timm ({error}). Run: pip install 'matchkit[timm]'") from error


def _build(timm: Any, folder: Path, params: TokenParams) -> Any:  # noqa: ANN401 - of timm
    told = {"img_size": params.input_size} if params.input_size else {}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            return timm.create_model(f"local-dir:{folder}", pretrained=params.init == "trained", num_classes=0, **told)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AssertionError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{folder} is not a vision transformer of timm: {reason}") from error


def _transformer(model: Any, folder: Path) -> Transformer:  # noqa: ANN401 - of timm
    blocks, prefix = getattr(model, "blocks", None), getattr(model, "num_prefix_tokens", None)
    if not isinstance(blocks, (nn.ModuleList, nn.Sequential)) or prefix is None:
        raise WeightsError(f"{folder}: a {type(model).__name__} gives no token a patch")
    norm = getattr(model, "norm", None)
    return Transformer(
        model=model,
        call=model.forward_features,
        blocks=blocks,
        norm=None if norm is None or isinstance(norm, nn.Identity) else norm,
        patch=square(model.patch_embed.patch_size, folder),
        side=square(model.pretrained_cfg["input_size"][1:], folder),
        width=model.embed_dim,
        prefix=prefix,
        has_class=getattr(model, "cls_token", None) is not None,
        mean=tuple(model.pretrained_cfg["mean"]),
        std=tuple(model.pretrained_cfg["std"]),
    )

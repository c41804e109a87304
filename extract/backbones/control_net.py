"""A ControlNet: what a picture of the condition adds to each call of a UNet.

Source: Zhang et al., Adding Conditional Control to Text-to-Image Diffusion Models, ICCV 2023 (arXiv 2302.05543).
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from jaxtyping import Float
from torch.nn import functional

from matchkit.core.errors import WeightsError
from matchkit.extract.backbones.prompts import States
from matchkit.extract.backbones.stable_diffusion import UNREADABLE, Further, Latents
from matchkit.extract.backbones.weights import EMBEDDED, checksum, locate, quietly

PARTS = (".",)
KIND = "ControlNetModel"
SHARED = ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim", "down_block_types")
"""Of a configuration: what must be the UNet's own for the residuals to fit."""
COLOURS = 3


class ControlNet:
    """A frozen ControlNet for one UNet.

    Args:
        weights: a folder of diffusers, or a hub id such as `lllyasviel/control_v11p_sd15_openpose`.
        unet: that it is for, already on its device and in its number type.
        scale: of what it adds; 0 adds nothing.

    Raises:
        WeightsError: no ControlNet, weights that are broken or not all there, or one for another UNet.

    Attributes:
        checksum: of its weights.
    """

    def __init__(self, weights: str, *, unet: UNet2DConditionModel, scale: float) -> None:
        if weights == EMBEDDED:
            raise WeightsError("no ControlNet is embedded: give a folder or a hub id as controlnet, or leave it out")
        folder = locate(weights, embedded="", marker="config.json", parts=PARTS)
        self._network = _load(folder, dtype=unet.dtype).to(unet.device).eval().requires_grad_(requires_grad=False)
        _require_fit(self._network, unet, folder)
        self._scale = scale
        # each cell of the latent is seen as so many pixels: all convolutions of the embedding but the first halve
        self._pixels = 2 ** (len(self._network.config.conditioning_embedding_out_channels) - 1)
        self.checksum = checksum(folder, parts=PARTS)

    def told(self, condition: Float[torch.Tensor, "b 3 h w"], grid: tuple[int, int]) -> Further:
        """What the UNet is told of conditions drawn as pictures.

        Args:
            condition: in [0, 1], one for each latent; resized to what the network takes.
            grid: (height, width) of the latents.
        """
        size = tuple(cells * self._pixels for cells in grid)
        picture = condition.to(self._network.device, self._network.dtype)
        if picture.shape[2:] != size:
            resized = functional.interpolate(picture.float(), size, mode="bilinear", antialias=True)
            picture = resized.to(self._network.dtype)

        def further(latents: Latents, times: Float[torch.Tensor, " b"], states: States) -> dict[str, Any]:
            down, middle = self._network(
                latents,
                times,
                encoder_hidden_states=states,
                controlnet_cond=picture,
                conditioning_scale=self._scale,
                return_dict=False,
            )
            return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}

        return further


def _load(folder: Path, *, dtype: torch.dtype) -> ControlNetModel:
    try:
        kind = json.loads((folder / "config.json").read_text()).get("_class_name")
        if kind != KIND:
            raise WeightsError(f"{folder} is not a {KIND} of diffusers: its _class_name is {kind!r}")
        with quietly():
            network, report = ControlNetModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, torch_dtype=dtype, output_loading_info=True
            )
    except WeightsError:
        raise
    except (*UNREADABLE, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{folder} is not a {KIND} of diffusers: {reason}") from error
    if missing := sorted(report["missing_keys"]):
        raise WeightsError(f"{folder} lacks {len(missing)} weights of a ControlNet, e.g. {missing[0]}: fetch it again")
    return network


def _require_fit(network: ControlNetModel, unet: UNet2DConditionModel, folder: Path) -> None:
    for name in SHARED:
        own, wanted = (_plain(model.config[name]) for model in (network, unet))
        if own != wanted:
            raise WeightsError(
                f"the ControlNet in {folder} is for another UNet: its {name} is {own}, this one's {wanted}. Take one "
                "that was trained for these weights"
            )
    if network.config.conditioning_channels != COLOURS:
        raise WeightsError(
            f"the ControlNet in {folder} takes {network.config.conditioning_channels} channels; a condition is handed "
            f"over as a picture of {COLOURS}"
        )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value

"""DINOv2 through transformers: the tokens of chosen blocks as maps.

Source: Oquab et al., DINOv2, arXiv 2304.07193. A map holds the patch tokens after a block, before the final norm.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from transformers import Dinov2Model

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.geometry import Fit
from matchkit.core.spec import FeatureSpec, LayerSpec, StoredType
from matchkit.extract.backbones.precision import PRECISIONS, STORED, Precision
from matchkit.extract.backbones.weights import checksum, locate, quietly

PARTS = (".",)
IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True, slots=True)
class DINOv2Params:
    """Parameters of `dinov2`.

    Attributes:
        weights: a transformers folder, a hub id, or `tiny` for the embedded default.
        init: `random` draws all weights anew (the control).
        layers: blocks counted from 0, negative from the end; the last one is what published work uses.
        facet: what is read; the patch tokens.
        input_size: the square input's side in pixels, a multiple of the patch; 0 takes the network's own.
        fit: how an image is put into the input.
        dtype: the number type of the maps at rest.
        precision: the number type of the arithmetic.
        seed: of random weights.
    """

    weights: str = "tiny"
    init: Literal["trained", "random"] = "trained"
    layers: tuple[int, ...] = (-1,)
    facet: Literal["token"] = "token"
    input_size: int = 0
    fit: Fit = "stretch"
    dtype: StoredType = "fp16"
    precision: Precision = "fp32"
    seed: int = 0


class DINOv2:
    """Patch tokens of the layers `block0`, `block1`, ...

    Raises:
        ConfigError: a block that the network does not have, or an input that is no multiple of its patch.
        WeightsError: not a Dinov2 folder.
    """

    Params = DINOv2Params

    def __init__(self, params: DINOv2Params, *, device: torch.device) -> None:
        folder = locate(params.weights, embedded="dinov2", marker="config.json", parts=PARTS)
        self._device = device
        self._precision = PRECISIONS[params.precision]
        self._model = _load(folder, params).to(device, self._precision).eval().requires_grad_(requires_grad=False)
        depth = self._model.config.num_hidden_layers
        if not params.layers or any(not -depth <= layer < depth for layer in params.layers):
            raise ConfigError(f"dinov2: layers must lie in {-depth}..{depth - 1}, not {list(params.layers)}")
        self._blocks = tuple(sorted({layer % depth for layer in params.layers}))
        mean, std = _normalisation(folder)
        self._mean, self._std = mean.to(device), std.to(device)
        self.spec = self._describe(params, checksum(folder, parts=PARTS))

    def _describe(self, params: DINOv2Params, weights: str) -> FeatureSpec:
        config = self._model.config
        side = params.input_size or config.image_size // config.patch_size * config.patch_size
        if side % config.patch_size:
            raise ConfigError(f"dinov2: input_size {side} is not a multiple of the patch, {config.patch_size} pixels")
        cells = side // config.patch_size
        return FeatureSpec(
            backbone="dinov2",
            weights=weights if params.init == "trained" else f"{weights}, drawn at random from seed {params.seed}",
            layers=tuple(LayerSpec(f"block{block}", config.hidden_size, (cells, cells)) for block in self._blocks),
            timesteps=(0,),
            input_size=(side, side),
            fit=params.fit,
            dtype=params.dtype,
            options={"facet": params.facet, "precision": params.precision},
        )

    @torch.inference_mode()
    def __call__(
        self, images: Float[torch.Tensor, "b 3 h w"], ids: Sequence[str]
    ) -> dict[str, Float[torch.Tensor, "b t c gh gw"]]:
        """The maps of images in [0, 1], on the CPU in the stored type."""
        pixels = (images.to(self._device) - self._mean) / self._std
        states = self._model(pixel_values=pixels.to(self._precision), output_hidden_states=True).hidden_states
        maps = {}
        for layer, block in zip(self.spec.layers, self._blocks, strict=True):
            tokens = states[block + 1][:, 1:].transpose(1, 2).unflatten(2, layer.grid)
            maps[layer.name] = tokens[:, None].to("cpu", STORED[self.spec.dtype])
        return maps


def _load(folder: Path, params: DINOv2Params) -> Dinov2Model:
    kind = _read(folder / "config.json").get("model_type")
    if kind != "dinov2":
        raise WeightsError(f"{folder} is not a Dinov2 network: its model_type is {kind!r}")
    try:
        with quietly():
            model = Dinov2Model.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{folder} is not a Dinov2 network: {reason}") from error
    if params.init == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            model = Dinov2Model(model.config)
    return model


def _normalisation(folder: Path) -> tuple[Float[torch.Tensor, "3 1 1"], Float[torch.Tensor, "3 1 1"]]:
    """Mean and standard deviation of the network's training images; ImageNet's where the folder names none."""
    path = folder / "preprocessor_config.json"
    config = IMAGENET | (_read(path) if path.exists() else {})
    mean, std = (torch.tensor(config[name], dtype=torch.float32)[:, None, None] for name in IMAGENET)
    return mean, std


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is not a readable configuration: {error}") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{path} must hold a JSON object, not {type(data).__name__}")
    return data

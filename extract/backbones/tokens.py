"""Vision transformers: the tokens of chosen blocks as maps, whichever library the network comes from.

A map holds the patch tokens as a block gives them, before the final norm, or what the block's attention makes of its
input: its keys, queries or values with all heads side by side, before a rotation by position.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import nn

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.geometry import Fit
from matchkit.core.records import Canvas, Resample
from matchkit.core.spec import FeatureSpec, LayerSpec, Scalar, StoredType
from matchkit.extract.backbones.options import departures
from matchkit.extract.backbones.precision import PRECISIONS, STORED, Precision

Facet = Literal["token", "key", "query", "value"]
Call = Callable[[Float[torch.Tensor, "b 3 h w"]], object]
CLASS = "cls"
PROJECTIONS = {"query": ("q_proj", "query"), "key": ("k_proj", "key"), "value": ("v_proj", "value")}
"""What libraries call the linear maps of an attention."""
FUSED = "qkv"
"""What they call the three in one: queries, keys, values."""


@dataclass(frozen=True, slots=True)
class TokenParams:
    """Parameters of every vision transformer.

    Attributes:
        weights: a folder in the library's own format, a hub id, or `tiny` for the embedded default.
        init: `random` draws all weights anew (the control).
        layers: blocks counted from 0, negative from the end; the last one is what published work uses.
        facet: what is read: the tokens after the block, or its attention's keys, queries or values.
        norm: whether the network's final norm is applied to the tokens of every block that is read.
        cls: whether the last of these blocks gives its class token too, as a layer `cls` of one cell.
        input_size: the square input's side in pixels, a multiple of the patch; 0 takes the network's own.
        fit: how an image is put into the input.
        resample: the filter by which it is resized.
        bars: the value in [0, 1] of a letterbox's bars.
        oriented: whether an EXIF orientation is applied.
        normalise: mean and deviation of the network's training images, or `half`: values are put into [-1, 1].
        dtype: the number type of the maps at rest.
        precision: the number type of the arithmetic.
        seed: of random weights.
    """

    weights: str = "tiny"
    init: Literal["trained", "random"] = "trained"
    layers: tuple[int, ...] = (-1,)
    facet: Facet = "token"
    norm: bool = False
    cls: bool = False
    input_size: int = 0
    fit: Fit = "stretch"
    resample: Resample = "bilinear"
    bars: float = 0.5
    oriented: bool = False
    normalise: Literal["network", "half"] = "network"
    dtype: StoredType = "fp16"
    precision: Precision = "fp32"
    seed: int = 0


RECORDED = ("norm", "cls", "resample", "bars", "oriented", "normalise")
"""Of these parameters a spec holds those that are not at their default."""


@dataclass(frozen=True, slots=True)
class Transformer:
    """A vision transformer, as far as its tokens are read.

    Attributes:
        model: the network; blocks after the last that is read are cut off.
        call: runs it on normalised images; what it returns is not looked at.
        blocks: its blocks in their order.
        norm: the norm after the last block, None where there is none.
        patch: a patch's side in input pixels.
        side: the side in pixels of the square input that it was made for.
        width: channels of a token.
        prefix: tokens that stand before the patches: class tokens and registers.
        has_class: whether the first of them is a class token.
        mean, std: of its training images, RGB.
    """

    model: nn.Module
    call: Call
    blocks: nn.ModuleList | nn.Sequential
    norm: nn.Module | None
    patch: int
    side: int
    width: int
    prefix: int
    has_class: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class _Tap(NamedTuple):
    """Where a facet is read: some channels of what a module gives."""

    module: nn.Module
    first: int
    channels: int


class TokenMaps:
    """Reads a transformer: the layers `block0`, `block1`, ... that are wanted, and `cls`.

    Several threads may call it at the same time.

    Attributes:
        spec: all that makes these features what they are.
        canvases: the one input that it takes.

    Raises:
        ConfigError: a block that the network does not have, an input that is no multiple of its patch, or a norm, a
            class token or a facet that cannot be had.
    """

    def __init__(
        self,
        network: Transformer,
        params: TokenParams,
        *,
        backbone: str,
        weights: str,
        device: torch.device,
        options: Mapping[str, Scalar] = MappingProxyType({}),
    ) -> None:
        _require(network, params, backbone=backbone)
        self._network = network
        self._norm = network.norm if params.norm else None
        self._precision = PRECISIONS[params.precision]
        self._stored = STORED[params.dtype]
        self._mean, self._std = (values.to(device) for values in _normalisation(network, params))
        self._kept: ContextVar[dict[str, torch.Tensor] | None] = ContextVar("kept", default=None)
        side = input_side(network, params, backbone=backbone)
        self._tokens = network.prefix + (side // network.patch) ** 2
        self.spec = FeatureSpec(
            backbone=backbone,
            weights=weights if params.init == "trained" else f"{weights}, drawn at random from seed {params.seed}",
            layers=self._tap(params, backbone=backbone, cells=side // network.patch),
            timesteps=(0,),
            input_size=(side, side),
            fit=params.fit,
            dtype=params.dtype,
            options={
                **{"facet": params.facet, "precision": params.precision},
                **departures(params, *RECORDED),
                **options,
            },
        )
        self.canvases = (Canvas(self.spec.input_size, params.fit, params.resample, params.bars, params.oriented),)
        network.model.to(device, self._precision).eval().requires_grad_(requires_grad=False)

    def _tap(self, params: TokenParams, *, backbone: str, cells: int) -> tuple[LayerSpec, ...]:
        """Cuts off the blocks that nobody reads and puts a hook on those that are read."""
        blocks = self._network.blocks
        depth = len(blocks)
        if not params.layers or any(not -depth <= layer < depth for layer in params.layers):
            raise ConfigError(f"{backbone}: layers must lie in {-depth}..{depth - 1}, not {list(params.layers)}")
        wanted = sorted({layer % depth for layer in params.layers})
        del blocks[wanted[-1] + 1 :]
        layers: list[LayerSpec] = []
        for number in wanted:
            tap = _tap_of(blocks[number], params.facet, width=self._network.width, backbone=backbone)
            read = [LayerSpec(f"block{number}", tap.channels, (cells, cells))]
            if params.cls and number == wanted[-1]:
                read.append(LayerSpec(CLASS, tap.channels, (1, 1)))
            for layer in read:
                tap.module.register_forward_hook(partial(self._keep, layer, tap))
            layers += read
        return tuple(layers)

    def _keep(self, layer: LayerSpec, tap: _Tap, module: nn.Module, inputs: object, output: object) -> None:
        kept = self._kept.get()
        if kept is None:
            return
        tokens = output[0] if isinstance(output, tuple) else output
        assert isinstance(tokens, torch.Tensor)
        if tokens.shape[1] != self._tokens:
            where = f"{self.spec.backbone}: {layer.name}"
            raise WeightsError(f"{where} gives {tokens.shape[1]} tokens where {self._tokens} were to be expected")
        place = slice(0, 1) if layer.name == CLASS else slice(self._network.prefix, None)
        tokens = tokens[:, place, tap.first : tap.first + tap.channels]
        tokens = self._norm(tokens) if self._norm else tokens
        # copied even where the type is right already: what a block gives may be changed in place by the next
        kept[layer.name] = tokens.to(self._stored, copy=True)[:, None].transpose(2, 3).unflatten(3, layer.grid)

    @torch.inference_mode()
    def __call__(self, images: Float[torch.Tensor, "b 3 h w"]) -> dict[str, Float[torch.Tensor, "b t c _ _"]]:
        """The maps of images in [0, 1], on the device in the stored type."""
        pixels = (images.to(self._mean.device) - self._mean) / self._std
        kept: dict[str, torch.Tensor] = {}
        token = self._kept.set(kept)
        try:
            self._network.call(pixels.to(self._precision))
        finally:
            self._kept.reset(token)
        return kept


def input_side(network: Transformer, params: TokenParams, *, backbone: str) -> int:
    """The square input's side in pixels.

    Raises:
        ConfigError: it is no multiple of the patch.
    """
    side = params.input_size or network.side // network.patch * network.patch
    if side % network.patch:
        raise ConfigError(f"{backbone}: input_size {side} is not a multiple of the patch, {network.patch} pixels")
    return side


def square(sides: int | Sequence[int], folder: Path) -> int:
    """The one side of a patch or an image.

    Raises:
        WeightsError: it is not square.
    """
    different = {sides} if isinstance(sides, int) else set(sides)
    if len(different) != 1:
        raise WeightsError(f"{folder}: patches and images must be square, not {sides}")
    return different.pop()


def _require(network: Transformer, params: TokenParams, *, backbone: str) -> None:
    if params.cls and not network.has_class:
        raise ConfigError(f"{backbone}: this network has no class token")
    if params.norm and network.norm is None:
        raise ConfigError(f"{backbone}: this network has no final norm")
    if params.norm and params.facet != "token":
        raise ConfigError(f"{backbone}: norm is that of tokens; facet is '{params.facet}'")


def _tap_of(block: nn.Module, facet: Facet, *, width: int, backbone: str) -> _Tap:
    if facet == "token":
        return _Tap(block, 0, width)
    names = (*PROJECTIONS[facet], FUSED)
    linear = {
        name.rpartition(".")[2]: module for name, module in block.named_modules() if isinstance(module, nn.Linear)
    }
    found = next((name for name in names if name in linear), None)
    # where a bias stands apart, the linear map alone is not the facet
    if found is None or any(name.endswith("q_bias") for name, _ in block.named_parameters()):
        raise ConfigError(f"{backbone}: the facet '{facet}' cannot be read in a {type(block).__name__}")
    channels = linear[found].out_features
    if found != FUSED:
        return _Tap(linear[found], 0, channels)
    return _Tap(linear[found], list(PROJECTIONS).index(facet) * (channels // 3), channels // 3)


def _normalisation(
    network: Transformer, params: TokenParams
) -> tuple[Float[torch.Tensor, "3 1 1"], Float[torch.Tensor, "3 1 1"]]:
    half = (0.5, 0.5, 0.5)
    values = (network.mean, network.std) if params.normalise == "network" else (half, half)
    mean, std = (torch.tensor(channels, dtype=torch.float32)[:, None, None] for channels in values)
    return mean, std

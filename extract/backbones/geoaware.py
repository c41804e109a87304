"""GeoAware-SC's and SD+DINO's features: Stable Diffusion over four overlapping crops, and DINOv2, on one grid of cells.

Sources: Telling Left from Right (Zhang et al., CVPR 2024, arXiv 2311.17034), A Tale of Two Features (Zhang et al.,
NeurIPS 2023, arXiv 2305.15347). A photograph is letterboxed twice, black bars around it: to 960 x 960 for Stable
Diffusion and to 840 x 840 for DINOv2. The UNet works at its own 512 x 512, on crops that begin at 0 or 448, and where
they overlap their maps are averaged.

What is not as published: Stable Diffusion is the plain pipeline with a fixed prompt, where the published code runs it
through ODISE, whose captioner puts an embedding of each crop in place of the text and shifts the time embedding by
weights trained on COCO. By CleanDIFT's supplement that is worth 0.3 to 1 point of PCK. SD+DINO's PCA over both images
of a pair belongs to no image and hence into no store: what is given here is what enters it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.geometry import Fit
from matchkit.core.records import Canvas, Resample
from matchkit.core.spec import FeatureSpec, LayerSpec, Scalar, StoredType
from matchkit.extract.backbones.diffusion import plain_noise
from matchkit.extract.backbones.dinov2 import DINOv2, DINOv2Params
from matchkit.extract.backbones.freeu import FreeU, raise_half
from matchkit.extract.backbones.kernels import Kernels
from matchkit.extract.backbones.options import departures
from matchkit.extract.backbones.precision import STORED, Precision
from matchkit.extract.backbones.prompts import Prompts, States
from matchkit.extract.backbones.stable_diffusion import Pipeline, StableDiffusion
from matchkit.extract.backbones.taps import Tapped

TAPS = {"sd.s5": "up0.1", "sd.s4": "up1.1", "sd.s3": "up2.1"}
"""Layers by the sub-layers whose outputs they are: what enters the decoder's sub-layers 2, 5 and 8 before the skip."""
DINO = "dino"
CANVAS_IN_CROPS = 15 / 8
"""The canvas's side over the crop's: 960 / 512."""


@dataclass(frozen=True, slots=True)
class GeoAwareParams:
    """Parameters of `geoaware`.

    Attributes:
        weights: of Stable Diffusion: a diffusers folder, a hub id, or `tiny` for the embedded default.
        unet: a safetensors file of other weights for the UNet, `owner/repository/file.safetensors` for one of the
            hub; "" keeps the pipeline's own.
        init: `random` draws the UNet's weights anew, and DINOv2's (the control).
        dino_weights: of DINOv2: a transformers folder, a hub id, or `tiny` for the embedded default.
        timestep: to which latents are noised.
        freeu: `aliased` as GeoAware-SC has it, where the maps that are kept are those that FreeU has raised; `plain`
            keeps them as they were before; `none` as SD+DINO.
        canvas: side in pixels of the square that Stable Diffusion sees in crops; 0 takes 15/8 of a crop, in whole
            cells of the coarsest layer.
        crop: a crop's side in pixels; 0 takes the pipeline's own.
        dino_canvas: side in pixels of the square that DINOv2 sees; 0 gives it the grid of `sd.s3`.
        positions: how DINOv2's position embeddings are brought to that side (see `dinov2`); with registers `exact`.
        prompt: text condition, in which `{category}` stands for the first part of an image's id.
        fit: how an image is put into the canvases.
        resample: the filter by which it is resized.
        bars: the value in [0, 1] of a letterbox's bars.
        oriented: whether an EXIF orientation is applied first.
        dtype: the number type of the maps at rest.
        precision: the number type of the arithmetic.
        kernels: what computes the UNet's transformer blocks: `torch`, `compiled`, or `xformers` on a GPU.
        seed: of the one noise for all crops and images, from a CPU generator, and of random weights.
    """

    weights: str = "tiny"
    unet: str = ""
    init: Literal["trained", "random"] = "trained"
    dino_weights: str = "tiny"
    timestep: int = 50
    freeu: Literal["none", "aliased", "plain"] = "aliased"
    canvas: int = 0
    crop: int = 0
    dino_canvas: int = 0
    positions: Literal["exact", "published"] = "published"
    prompt: str = ""
    fit: Fit = "letterbox"
    resample: Resample = "lanczos"
    bars: float = 0.0
    oriented: bool = False
    dtype: StoredType = "fp16"
    precision: Precision = "fp32"
    kernels: Kernels = "torch"
    seed: int = 42


class GeoAware:
    """The layers `sd.s5`, `sd.s4`, `sd.s3` and `dino`; the second canvas is DINOv2's.

    Raises:
        ConfigError: a timestep outside the schedule, or sides that do not fit the cells.
        WeightsError: not a Stable Diffusion folder, or not a Dinov2 folder.
    """

    Params = GeoAwareParams

    def __init__(self, params: GeoAwareParams, *, device: torch.device) -> None:
        self._params = params
        pipeline = Pipeline(
            weights=params.weights,
            init=params.init,
            layers=tuple(TAPS.values()),
            hook="sublayer",
            input_size=params.crop,
            precision=params.precision,
            kernels=params.kernels,
            seed=params.seed,
            unet=params.unet,
        )
        self._network = StableDiffusion(pipeline, device=device)
        last = len(self._network.alphas) - 1
        if not 0 <= params.timestep <= last:
            raise ConfigError(f"geoaware: timestep must lie in 0..{last}, not {params.timestep}")
        self._crop = self._network.input_size
        self._strides = {layer.name: self._crop / layer.grid[0] for layer in self._network.layers}
        self._canvas = self._canvas_side(params.canvas)
        self._dino = self._load_dino(device)
        self._prompts = Prompts(self._network.text_encoder(), params.prompt)
        if params.freeu != "none":
            FreeU().install(self._network.unet)
        self.spec = self._describe()
        self.canvases = tuple(
            Canvas(size, params.fit, params.resample, params.bars, params.oriented)
            for size in (self.spec.input_size, self._dino.spec.input_size)
        )

    def _canvas_side(self, wanted: int) -> int:
        blocks = len(self._network.unet.up_blocks)
        cell = self._crop // self._network.latent_shape[1] * 2 ** (blocks - 1)
        side = wanted or max(self._crop, int(self._crop * CANVAS_IN_CROPS / cell) * cell)
        if self._crop % cell or side % cell or side < self._crop:
            raise ConfigError(
                f"geoaware: canvas {side} and crop {self._crop} must be multiples of {cell} pixels, and the canvas not "
                "smaller than the crop"
            )
        return side

    def _load_dino(self, device: torch.device) -> DINOv2:
        params = self._params
        cells = round(self._canvas / min(self._strides.values()))

        def load(side: int) -> DINOv2:
            told = DINOv2Params(
                weights=params.dino_weights,
                init=params.init,
                layers=(-1,),
                input_size=side,
                dtype=params.dtype,
                precision=params.precision,
                positions=params.positions,
            )
            return DINOv2(told, device=device)

        if params.dino_canvas:
            return load(params.dino_canvas)
        own = load(0)
        patch = own.spec.input_size[0] // own.spec.layers[0].grid[0]
        return load(cells * patch)

    def _describe(self) -> FeatureSpec:
        params = self._params
        options: dict[str, Scalar] = {
            "crop": self._crop,
            "dino_canvas": self._dino.spec.input_size[0],
            "freeu": params.freeu,
            "prompt": params.prompt,
            "precision": params.precision,
            "seed": params.seed,
            **departures(params, "init", "kernels", "positions", "resample", "bars", "oriented"),
        }
        cells = {name: round(self._canvas / stride) for name, stride in self._strides.items()}
        channels = {layer.name: layer.channels for layer in self._network.layers}
        dino = self._dino.spec.layers[0]
        layers = [LayerSpec(name, channels[tap], (cells[tap],) * 2) for name, tap in TAPS.items()]
        return FeatureSpec(
            backbone="geoaware",
            weights=f"Stable Diffusion {self._network.checksum}; DINOv2 {self._dino.spec.weights}",
            layers=(*layers, LayerSpec(DINO, dino.channels, dino.grid)),
            timesteps=(params.timestep,),
            input_size=(self._canvas,) * 2,
            fit=params.fit,
            dtype=params.dtype,
            options=options,
        )

    @torch.inference_mode()
    def __call__(
        self, images: Float[torch.Tensor, "b 3 _ _"], ids: Sequence[str], *others: Float[torch.Tensor, "b 3 _ _"]
    ) -> dict[str, Float[torch.Tensor, "b t _ _ _"]]:
        """The maps of images in [0, 1], on the device in the stored type.

        Args:
            images: on Stable Diffusion's canvas.
            ids: of the images.
            others: the same images on DINOv2's canvas.
        """
        (small,) = others
        states = self._prompts(ids)
        noise = plain_noise(self._network.latent_shape, seed=self._params.seed)
        stored = STORED[self.spec.dtype]
        whole = self._over_crops(images, noise, states)
        maps = {name: whole[tap][:, None].to(stored) for name, tap in TAPS.items()}
        (tokens,) = self._dino(small, ids).values()
        return maps | {DINO: tokens}

    def _over_crops(
        self, images: Float[torch.Tensor, "b 3 h w"], noise: Float[torch.Tensor, "1 zc zh zw"], states: States
    ) -> Tapped:
        """The mean, in fp32, of what the crops say of each cell."""
        sums: Tapped = {}
        hits: dict[str, torch.Tensor] = {}
        starts = origins(self._canvas, self._crop)
        for top, left in ((top, left) for top in starts for left in starts):
            crop = images[:, :, top : top + self._crop, left : left + self._crop]
            for tap, maps in self._of_crop(crop, noise, states).items():
                stride, cells = self._strides[tap], maps.shape[-1]
                rows, columns = (slice(round(start / stride), round(start / stride) + cells) for start in (top, left))
                if tap not in sums:
                    side = round(self._canvas / stride)
                    sums[tap] = maps.new_zeros(*maps.shape[:2], side, side, dtype=torch.float32)
                    hits[tap] = maps.new_zeros(side, side, dtype=torch.float32)
                sums[tap][:, :, rows, columns] += maps
                hits[tap][rows, columns] += 1
        return {tap: total / hits[tap] for tap, total in sums.items()}

    def _of_crop(
        self, crop: Float[torch.Tensor, "b 3 h w"], noise: Float[torch.Tensor, "1 zc zh zw"], states: States
    ) -> Tapped:
        params = self._params
        latents = self._network.noised(self._network.encode(crop).expected(), noise, params.timestep)
        maps = self._network.maps(latents, params.timestep, states)
        if params.freeu != "aliased":
            return maps
        factors = FreeU().factors(self._network.unet)
        raised = {tap: factors.get(tensor.shape[1], (1.0, 1.0))[0] for tap, tensor in maps.items()}
        return {tap: raise_half(tensor, raised[tap]) for tap, tensor in maps.items()}


def origins(canvas: int, crop: int) -> list[int]:
    """Where crops begin along an axis: as few as cover the canvas, the last one moved back to end with it.

    Example:
        >>> origins(960, 512)
        [0, 448]
    """
    return [min(start, canvas - crop) for start in range(0, canvas, crop)]

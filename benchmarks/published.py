"""How the published code extracts, over the same networks as matchkit: what `extract.py` compares with.

From their code: Diffusion Hyperfeatures and SD+DINO compute both images of every pair anew; DIFT, SD4Match without a
prompt of the pair, and GeoAware-SC compute every image once, one after the other, into a file. Only DIFT ends the UNet
early, and it has the VAE encode every copy of an image; hyperfeatures take every latent to the CPU and back;
GeoAware-SC and SD+DINO run the VAE's decoder on every crop. What is left out (ODISE's captioner and heads,
resizing the maps, a pair's PCA) would only make them slower.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from matchkit.core.records import ImageRecord
from matchkit.extract.backbones.diffusion import add_noise, cumulative_alphas, ddim_step, levels
from matchkit.extract.backbones.dinov2 import DINOv2, DINOv2Params
from matchkit.extract.backbones.freeu import FreeU
from matchkit.extract.backbones.geoaware import TAPS, origins
from matchkit.extract.backbones.precision import PRECISIONS
from matchkit.extract.backbones.prompts import TextEncoder
from matchkit.extract.backbones.taps import DecoderTaps, Tapped, chosen_layers
from matchkit.extract.run import inputs
from matchkit.pipelines.plan import calls_an_image
from matchkit.pipelines.prepare import Prepared


@dataclass(frozen=True)
class Habit:
    """What the published code does.

    Attributes:
        of_pairs: whether it computes both images of every pair; else every image once, into a file.
        encodes_copies: whether the VAE encodes every copy of an image.
        stops: whether the UNet ends at the last wanted map.
        decodes: whether the VAE's decoder runs, for nothing.
    """

    of_pairs: bool = False
    encodes_copies: bool = False
    stops: bool = False
    decodes: bool = False


HABITS = {
    "hyperfeatures": Habit(of_pairs=True),
    "hyperfeatures-one-step": Habit(of_pairs=True),
    "dift": Habit(encodes_copies=True, stops=True),
    "sd4match": Habit(),
    "geoaware": Habit(decodes=True),
    "sd-dino": Habit(of_pairs=True, decodes=True),
}


@dataclass(frozen=True)
class Run:
    """What both ways share; `params` are those of matchkit's backbone."""

    preset: str
    params: Mapping[str, Any]
    prepared: Prepared
    weights: Path
    records: Sequence[ImageRecord]
    scratch: Path

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(TAPS.values()) if self.prepared.name == "geoaware" else tuple(self.params.get("layers", ()))

    @property
    def hook(self) -> Any:  # noqa: ANN401 - one of the hooks
        return "sublayer" if self.prepared.name == "geoaware" else self.params.get("hook", "output")

    @property
    def calls(self) -> int:
        """Calls of the UNet that the published code makes an image: an inversion never ends early."""
        return int(self.params.get("steps", calls_an_image(self.prepared.backbone.spec)))


class Published:
    """The published ways: some images at a time, from the file to the maps."""

    def __init__(self, run: Run) -> None:
        self._run, self._device = run, run.prepared.device
        self._type = PRECISIONS[run.params["precision"]]
        options = {"torch_dtype": self._type, "local_files_only": True}
        self._unet = UNet2DConditionModel.from_pretrained(run.weights, subfolder="unet", **options).to(self._device)
        self._vae = AutoencoderKL.from_pretrained(run.weights, subfolder="vae", **options).to(self._device)
        self._states = TextEncoder(run.weights, device=self._device, dtype=self._type)("")
        self._alphas = cumulative_alphas(beta_start=0.00085, beta_end=0.012, steps=1000)
        self._taps = DecoderTaps(self._unet, chosen_layers(self._unet, run.layers), hook=run.hook)
        self._ways = {"sd-inversion": self._inversion, "sd-noise": self._noised, "geoaware": self._crops}
        if run.prepared.name == "geoaware":
            FreeU().install(self._unet)
            side = run.prepared.backbone.canvases[1].size[0]
            told = DINOv2Params(layers=(-1,), input_size=side, precision=run.params["precision"])
            self._dino = DINOv2(told, device=self._device)

    @torch.inference_mode()
    def __call__(self, records: Sequence[ImageRecord]) -> list[Tapped]:
        """The maps of images that are computed together, one mapping a call of the UNet that is kept."""
        loaded = [inputs(record, self._run.prepared.backbone.canvases) for record in records]
        images, *others = (torch.stack(of_canvas).to(self._device) for of_canvas in zip(*loaded, strict=True))
        maps = self._ways[self._run.prepared.name](images)
        if others:
            maps.append(self._dino(others[0], [record.id for record in records]))
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return maps

    def into_file(self, record: ImageRecord) -> None:
        """As the code that keeps its maps does it: a pickle an image."""
        torch.save(self([record]), self._run.scratch / "published.pt")

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        posterior = self._vae.encode((images * 2 - 1).to(self._type)).latent_dist
        sampled = self._run.params.get("posterior") in ("sample", "copies")
        latents: torch.Tensor = posterior.sample() if sampled else posterior.mean
        return latents.float() * float(self._vae.config.scaling_factor)

    def _call(self, latents: torch.Tensor, time: float) -> torch.Tensor:
        times = torch.full((len(latents),), float(time), device=self._device)
        states = self._states.expand(len(latents), -1, -1)
        output: torch.Tensor = self._unet(latents.to(self._type), times, encoder_hidden_states=states).sample
        return output.float()

    def _inversion(self, images: torch.Tensor) -> list[Tapped]:
        steps, keys = int(self._run.params["steps"]), self._run.params["keys"]
        latents, kept = self._encode(images), []
        before, alpha = -1, torch.ones(())
        for index, timestep in enumerate(levels(steps)):
            latents = latents.to(self._device)
            with self._taps.recording() as maps:
                noise = self._call(latents, before)
            if steps - 1 - index in keys:
                kept.append(maps)
            latents = ddim_step(latents, noise, alpha=alpha, alpha_next=self._alphas[timestep]).cpu()
            before, alpha = timestep, self._alphas[timestep]
        return kept

    def _noised(self, images: torch.Tensor) -> list[Tapped]:
        params, habit = self._run.params, HABITS[self._run.preset]
        copies, timestep = int(params["ensemble"]), int(params["timesteps"][0])
        if habit.encodes_copies:
            latents = self._encode(images.repeat_interleave(copies, dim=0))
        else:
            latents = self._encode(images).repeat_interleave(copies, dim=0)
        noised = add_noise(latents, torch.randn_like(latents), alpha=self._alphas[timestep])
        with self._taps.recording() as maps, self._taps.stopping() if habit.stops else nullcontext():
            self._call(noised, timestep)
        return [{name: values.float().unflatten(0, (-1, copies)).mean(1) for name, values in maps.items()}]

    def _crops(self, images: torch.Tensor) -> list[Tapped]:
        crop, timestep = int(self._run.prepared.backbone.spec.options["crop"] or 0), int(self._run.params["timestep"])
        starts, kept = origins(images.shape[-1], crop), []
        for top, left in ((top, left) for top in starts for left in starts):
            latents = self._encode(images[:, :, top : top + crop, left : left + crop])
            noised = add_noise(latents, torch.randn_like(latents[:1]), alpha=self._alphas[timestep])
            with self._taps.recording() as maps:
                self._call(noised, timestep)
            kept.append(maps)
            self._vae.decode((latents / float(self._vae.config.scaling_factor)).to(self._type))
        return kept

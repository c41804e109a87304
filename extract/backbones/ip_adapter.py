"""An IP-Adapter: a picture beside the prompt in the cross-attentions of a UNet.

Source: Ye et al., IP-Adapter, arXiv 2308.06721. Files in the published layout: `image_proj.*` makes tokens of what
CLIP sees, `ip_adapter.1.to_k_ip.weight`, `ip_adapter.1.to_v_ip.weight`, `ip_adapter.3...` are the keys and values of
the cross-attentions. The plain adapter reads CLIP's projected class token, `plus` and `full` its last but one states.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Float
from safetensors.torch import load_file
from torch.nn import functional
from transformers import CLIPVisionModelWithProjection

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.prompts import States
from matchkit.extract.backbones.stable_diffusion import UNREADABLE, Further, Latents
from matchkit.extract.backbones.vit_folder import without_report
from matchkit.extract.backbones.weights import EMBEDDED, checksum, file_checksum, locate, locate_file, quietly

PARTS = (".",)
GROUPS = ("image_proj", "ip_adapter")
Kind = Literal["plain", "full", "plus"]
KINDS: dict[str, Kind] = {"proj.weight": "plain", "proj.3.weight": "full", "latents": "plus"}
"""What tells the kinds apart whose pictures are seen by CLIP; those for faces are seen by another network."""
FACES = "perceiver_resampler."
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training images, RGB."""
Seen = Float[torch.Tensor, "b 1 *n d"]
"""What CLIP makes of pictures: one vector, or one a token."""


class IPAdapter:
    """A frozen adapter put into a UNet, which from then on must be told a picture in every call.

    Args:
        weights: a safetensors file, or one of the hub, such as `h94/IP-Adapter/models/ip-adapter_sd15.safetensors`.
        image_encoder: the folder of the CLIP vision network that it was trained with, with its projection, or a hub id.
        unet: that it is put into, already on its device and in its number type.
        scale: of what it adds; 0 adds nothing.

    Raises:
        ConfigError: no image encoder.
        WeightsError: no such adapter or encoder, weights that are broken or not all there, or of another UNet.

    Attributes:
        checksum: of its weights and of the encoder's.
    """

    def __init__(self, weights: str, *, image_encoder: str, unet: UNet2DConditionModel, scale: float) -> None:
        path = locate_file(weights)
        folder = _locate_encoder(image_encoder)
        groups = _groups(path)
        self._kind = _kind(groups["image_proj"], path)
        _require_attentions(groups["ip_adapter"], unet, path)
        self._encoder = _load_encoder(folder, unet)
        self._mean, self._std = (
            torch.tensor(values, device=unet.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD)
        )
        _install(groups, unet, path, scale=scale)
        self._nothing = self._tried(unet, path=path, folder=folder)
        self.checksum = f"{file_checksum(path)}, image encoder {checksum(folder, parts=PARTS)}"

    def told(self, pictures: Float[torch.Tensor, "b 3 h w"]) -> tuple[Further, Further]:
        """What the UNet is told of pictures in [0, 1], one for each latent; and what where there are none."""
        seen = self._seen(self._pixels(pictures))
        return _telling(seen), _telling(self._nothing.expand_as(seen))

    def _pixels(self, pictures: Float[torch.Tensor, "b 3 _ _"]) -> Float[torch.Tensor, "b 3 s s"]:
        """The middle of pictures as CLIP sees it: the shorter side is brought to the network's, bicubically."""
        side = int(self._encoder.config.image_size)
        height, width = pictures.shape[2:]
        scale = side / min(height, width)
        size = (max(side, round(height * scale)), max(side, round(width * scale)))
        resized = pictures.to(self._mean)
        if size != (height, width):
            resized = functional.interpolate(resized, size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = ((length - side) // 2 for length in size)
        return (resized[:, :, top : top + side, left : left + side] - self._mean) / self._std

    @torch.no_grad()
    def _seen(self, pixels: Float[torch.Tensor, "b 3 s s"]) -> Seen:
        output = self._encoder(pixels.to(self._encoder.dtype), output_hidden_states=self._kind != "plain")
        seen: torch.Tensor = output.image_embeds if self._kind == "plain" else output.hidden_states[-2]
        return seen[:, None]

    @torch.no_grad()
    def _tried(self, unet: UNet2DConditionModel, *, path: Path, folder: Path) -> Seen:
        """What stands for no picture: a zero vector, or the tokens of a grey picture. It is put through once."""
        side = int(self._encoder.config.image_size)
        grey = self._seen(torch.zeros(1, 3, side, side, device=self._mean.device))
        try:
            width = unet.encoder_hid_proj([grey])[0].shape[-1]
        except RuntimeError as error:
            raise WeightsError(f"{path} was not trained with the image encoder in {folder}: {error}") from error
        if width != unet.config.cross_attention_dim:
            raise WeightsError(
                f"{path} makes tokens {width} wide of a picture; the cross-attentions of this UNet take "
                f"{unet.config.cross_attention_dim}: take the adapter for these weights"
            )
        return torch.zeros_like(grey) if self._kind == "plain" else grey


def _telling(seen: Seen) -> Further:
    def further(latents: Latents, times: Float[torch.Tensor, " b"], states: States) -> dict[str, Any]:
        return {"added_cond_kwargs": {"image_embeds": [seen]}}

    return further


def _locate_encoder(image_encoder: str) -> Path:
    if not image_encoder:
        raise ConfigError("an IP-Adapter needs the CLIP network that it was trained with: set image_encoder=FOLDER")
    if image_encoder == EMBEDDED:
        raise WeightsError("no image encoder is embedded: give a folder or a hub id as image_encoder")
    return locate(image_encoder, embedded="", marker="config.json", parts=PARTS)


def _load_encoder(folder: Path, unet: UNet2DConditionModel) -> CLIPVisionModelWithProjection:
    options = {"local_files_only": True, "use_safetensors": True, "dtype": unet.dtype, "output_loading_info": True}
    try:
        with quietly(), without_report():
            encoder, report = CLIPVisionModelWithProjection.from_pretrained(folder, **options)
    except (*UNREADABLE, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{folder} is not a CLIP vision network of transformers: {reason}") from error
    if missing := sorted(report["missing_keys"]):
        raise WeightsError(
            f"{folder} lacks {len(missing)} weights of a CLIP vision network with its projection, e.g. {missing[0]}"
        )
    return encoder.to(unet.device).eval().requires_grad_(requires_grad=False)


def _groups(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The two parts of an adapter's file, the weights of each by their names within it."""
    groups: dict[str, dict[str, torch.Tensor]] = {name: {} for name in GROUPS}
    try:
        for name, tensor in load_file(path).items():
            group, _, rest = name.partition(".")
            groups.get(group, {})[rest] = tensor
    except UNREADABLE as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from error
    for group, tensors in groups.items():
        if not tensors:
            raise WeightsError(f"{path} is not an IP-Adapter: it holds no {group}.* weights")
    return groups


def _kind(projection: dict[str, torch.Tensor], path: Path) -> Kind:
    known = [kind for name, kind in KINDS.items() if name in projection]
    if len(known) != 1 or any(name.startswith(FACES) for name in projection):
        raise WeightsError(
            f"{path} is an IP-Adapter of a kind that is not known here: {', '.join(KINDS.values())} are, those for "
            "faces are not"
        )
    return known[0]


def _require_attentions(adapter: dict[str, torch.Tensor], unet: UNet2DConditionModel, path: Path) -> None:
    """Refuses what diffusers would load in part: published numbers count self-attentions too, so they are odd."""
    count = sum(not name.endswith("attn1.processor") for name in unet.attn_processors)
    expected = {f"{2 * n + 1}.to_{what}_ip.weight" for n in range(count) for what in "kv"}
    if strange := sorted(expected ^ adapter.keys()):
        raise WeightsError(
            f"{path} is for another UNet: this one has {count} cross-attentions, and of ip_adapter.{strange[0]} only "
            "one of the two knows. Take the adapter for these weights"
        )


def _install(
    groups: dict[str, dict[str, torch.Tensor]], unet: UNet2DConditionModel, path: Path, *, scale: float
) -> None:
    try:
        with torch.random.fork_rng(devices=[]):  # what is loaded over is drawn first
            unet._load_ip_adapter_weights([groups], low_cpu_mem_usage=False)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} does not fit this UNet: {reason}") from error
    for processor in unet.attn_processors.values():
        if hasattr(processor, "to_k_ip"):
            processor.scale = [scale]
    unet.eval().requires_grad_(requires_grad=False)

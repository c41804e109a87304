"""A vision transformer in a folder of transformers: blocks and norm are found, its kind tells the rest."""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging

from matchkit.core.errors import WeightsError
from matchkit.extract.backbones.tokens import Call, TokenParams, Transformer, square
from matchkit.extract.backbones.weights import quietly

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASS_TOKENS: Mapping[str, int] = {
    **{"dinov2": 1, "dinov2_with_registers": 1, "dinov3_vit": 1, "vit": 1, "vit_msn": 1, "vit_mae": 1, "ijepa": 0},
    **{"beit": 1, "data2vec-vision": 1, "deit": 2, "clip_vision_model": 1, "siglip_vision_model": 0},
}
"""The kinds of network that are known, with their class tokens; DeiT has a second one, for distillation."""
TOWERS: Mapping[str, str] = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel"}
"""Kinds with a text encoder beside the network, and the class that loads the network alone."""
KINDS = (*CLASS_TOKENS, *TOWERS)
NORMS = ("layernorm", "norm", "post_layernorm")
"""What the final norm is called."""
UNUSED = ("pool", "head.", "mask_token")
"""In the names of weights that no map depends on, and that a folder may lack."""


def load(folder: Path, params: TokenParams, *, kinds: Sequence[str], what: str) -> Transformer:
    """Reads the network of a folder, or draws its weights anew.

    Args:
        folder: with `config.json` and safetensors.
        params: whether weights are drawn, and from which seed.
        kinds: of which `model_type` it may be.
        what: that is asked for, in an error message.

    Raises:
        WeightsError: another kind of network, weights that are broken or not all there, or an unknown normalisation.
    """
    kind = _read(folder / "config.json").get("model_type")
    if kind not in kinds:
        raise WeightsError(f"{folder} is not a {what}: its model_type is {kind!r}; known: {', '.join(kinds)}")
    try:
        model = _model(folder, str(kind))
        if params.init == "random":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(params.seed)
                model = type(model)(model.config)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{folder} is not a {what}: {reason}") from error
    config = model.config
    class_tokens = CLASS_TOKENS[config.model_type]
    mean, std = _normalisation(folder, config.model_type)
    return Transformer(
        model=model,
        call=_call(model),
        blocks=_blocks(model, folder),
        norm=_norm(model),
        patch=square(config.patch_size, folder),
        side=square(config.image_size, folder),
        width=config.hidden_size,
        prefix=class_tokens + getattr(config, "num_register_tokens", 0),
        has_class=class_tokens > 0,
        mean=mean,
        std=std,
    )


def _model(folder: Path, kind: str) -> Any:  # noqa: ANN401 - any network of transformers
    loader = getattr(transformers, TOWERS.get(kind, "AutoModel"))
    with quietly(), without_report():
        model, report = loader.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    missing = sorted(name for name in report["missing_keys"] if not any(part in name for part in UNUSED))
    if hasattr(model.config, "mask_ratio"):
        model.config.mask_ratio = 0.0
    if missing:
        raise WeightsError(f"{folder} lacks {len(missing)} weights of this network, e.g. {missing[0]}")
    return model


@contextmanager
def without_report() -> Iterator[None]:
    """Keeps transformers from listing all the weights of a text encoder as unexpected; what is missing is told here."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _call(model: Any) -> Call:  # noqa: ANN401 - of transformers
    """Runs the network at any input size: what does not interpolate its position embeddings by itself is told to."""
    told = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    run: Call = partial(model, **({"interpolate_pos_encoding": True} if told else {}))
    return partial(_unmasked, model, run) if model.config.model_type == "vit_mae" else run


def _unmasked(model: Any, run: Callable[..., object], pixels: Float[torch.Tensor, "b 3 h w"]) -> object:  # noqa: ANN401
    """A call of a masked autoencoder that masks nothing and keeps the patches in their order."""
    patches = pixels.shape[2] * pixels.shape[3] // model.config.patch_size**2
    return run(pixels, noise=torch.arange(patches, device=pixels.device).expand(len(pixels), -1))


def _norm(model: nn.Module) -> nn.Module | None:
    norms = (getattr(model, name, None) for name in NORMS)
    return next((norm for norm in norms if norm is not None and not isinstance(norm, nn.Identity)), None)


def _blocks(model: Any, folder: Path) -> nn.ModuleList:  # noqa: ANN401 - of transformers
    depth = model.config.num_hidden_layers
    found = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == depth]
    if len(found) != 1:
        raise WeightsError(f"{folder}: the {depth} blocks of a {type(model).__name__} are not found")
    return found[0]


def _normalisation(folder: Path, kind: str) -> tuple[Triple, Triple]:
    """Mean and standard deviation of the training images; a DINO folder that does not tell has ImageNet's.

    Raises:
        WeightsError: a folder of another kind does not tell.
    """
    own, shared = folder / "preprocessor_config.json", folder / "processor_config.json"
    config = _read(own) if own.exists() else _read(shared).get("image_processor", {}) if shared.exists() else {}
    try:
        return tuple(config["image_mean"]), tuple(config["image_std"])
    except KeyError as error:
        if kind.startswith("dino"):
            return IMAGENET
        raise WeightsError(f"{folder} does not tell image_mean and image_std: {own.name} is missing") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is not a readable configuration: {error}") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{path} must hold a JSON object, not {type(data).__name__}")
    return data

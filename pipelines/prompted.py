"""Extraction with a learned prompt: the file of a head becomes the states that a backbone's UNet is given."""

import hashlib
import inspect
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.interfaces import Backbone, PromptableBackbone
from matchkit.core.params import build
from matchkit.core.records import ImageRecord
from matchkit.extract.backbones import BACKBONES
from matchkit.heads.weights import HeadWeights

log = logging.getLogger(__name__)

PROMPT = "prompt"
CONDITIONAL = "conditional-prompt"
TAKEN_AS = "prompts"
"""The argument by which a backbone takes learned prompts; one that has none takes none."""
DIGITS = 12


@dataclass(frozen=True, slots=True)
class Prompt:
    """A learned prompt that an extraction is told of.

    Attributes:
        path: of the head's file.
        categories: of the images, for each of which there are states; "" for images without one.
    """

    path: str
    categories: tuple[str, ...]


def prompt_for(path: Path, records: Sequence[ImageRecord]) -> Prompt:
    """The prompt of a file for some images."""
    # an image's category is the first part of its id, as in prompts in words
    categories = {record.id.partition("/")[0] if "/" in record.id else "" for record in records}
    return Prompt(str(path.expanduser().absolute()), tuple(sorted(categories)))


def build_backbone(
    name: str, values: Mapping[str, Any], *, where: str, device: torch.device, prompt: Prompt | None
) -> Backbone:
    """A backbone by its name and parameters, with the learned prompt that it is given.

    Raises:
        ConfigError: a parameter it does not have, or a prompt for a backbone that takes none.
        WeightsError: the file holds no prompt, or one that was learned with another text encoder.
    """
    if prompt is None:
        backbone: Backbone = BACKBONES.build(name, values, where=where, device=device)
        return backbone
    kind = BACKBONES.load(name)
    if TAKEN_AS not in inspect.signature(kind).parameters:
        raise ConfigError(f"the backbone '{name}' takes no learned prompt. Take: --backbone sd-noise")
    states = _learned(prompt, build(kind.Params, values, where=where), device=device)
    prompted: Backbone = BACKBONES.build(name, values, where=where, device=device, prompts=states)
    return prompted


def promptable(network: Mapping[str, Any], *, device: torch.device, where: str) -> PromptableBackbone:
    """The network that a prompted head asks for; `where` names the place of its parameters in an error message."""
    from matchkit.extract.backbones.promptable import PromptableDiffusion, PromptableParams

    return PromptableDiffusion(build(PromptableParams, network, where=where), device=device)


def _learned(prompt: Prompt, params: Any, *, device: torch.device) -> object:  # noqa: ANN401 - of the backbone
    """The states of a prompt, through the text encoder of the pipeline whose maps are extracted."""
    from matchkit.extract.backbones.prompts import LearnedPrompts

    kept = _kept(prompt.path)
    told = dict(kept.config["network"])
    own = told.get("weights", params.weights)
    if own != params.weights:
        log.warning("%s was learned on %s, and goes through the text encoder of %s", prompt.path, own, params.weights)
    told |= {"weights": params.weights, "unet": params.unet, "input_size": kept.spec.input_size[0]}
    network = promptable(told, device=device, where=f"{prompt.path}: network")
    try:
        head: Any = kept.build(device=device, backbones=lambda _: network)
    except WeightsError as error:
        raise WeightsError(
            f"the prompt {prompt.path} does not fit the text encoder of {params.weights} ({error}). It was learned on "
            f"{own}. Take: --weights {own}"
        ) from error
    with torch.no_grad():
        states = {category: head.states([category]) for category in prompt.categories}
    return LearnedPrompts(states, digest(kept))


def _kept(path: str) -> HeadWeights:
    kept = HeadWeights.load(Path(path))
    if kept.head == CONDITIONAL:
        raise ConfigError(
            f"{path} is a conditional prompt: it depends on both images of a pair, so no image has maps of its own "
            "under it. Match with it as it is: matchkit match --head conditional-prompt"
        )
    if kept.head != PROMPT:
        raise ConfigError(f"{path} holds the head '{kept.head}', not a prompt. Run: matchkit fit-head prompt")
    return kept


def digest(kept: HeadWeights) -> str:
    """12 hexadecimal digits of the SHA-256 of a head's configuration and parameters."""
    made = hashlib.sha256(json.dumps([kept.head, kept.config], sort_keys=True).encode())
    for name, tensor in sorted(kept.tensors.items()):
        made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        made.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return made.hexdigest()[:DIGITS]

"""A prompt as a head: learnt through the frozen UNet, for all images or for each category, or told in words.

Source: Li et al., SD4Match, CVPR 2024 (arXiv 2310.17569).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import BatchPair, Maps, PairBatch, PromptableBackbone
from matchkit.core.spec import FeatureSpec
from matchkit.heads.prompt_kinds import (
    TEXT,
    Beginning,
    ClassPrompt,
    HiddenStatePrompt,
    PromptOfImage,
    SinglePrompt,
    TextPrompt,
    category_of,
)
from matchkit.heads.prompt_loss import counted, prompt_loss
from matchkit.heads.prompted import PromptedNetwork, PromptedParams, fitting, latents_of, untaken


@dataclass(frozen=True, slots=True)
class PromptParams(PromptedParams):
    """Parameters of `prompt`, with those that all prompted heads have.

    Attributes:
        kind: `single`, the same tokens for all images; `class`, tokens for each category; `hidden-state`, what the text
            encoder would give; `text` and `empty`, words, with nothing to learn.
        tokens: how many are learnt, fewer where the text encoder has room for fewer.
        begin: what is learnt begins as `drawn` words (published), or as the words of the `template`.
        template: of `text`, in which `{category}` stands for an image's category.
        categories: for which `class` has tokens: those of the pairs that are trained on.
        unseen: what any other category takes: `text`, the template's words, or a trained category's tokens.
    """

    kind: Literal["single", "class", "hidden-state", "text", "empty"] = "single"
    tokens: int = 75
    begin: Literal["drawn", "template"] = "drawn"
    template: str = "a photo of a {category}"
    categories: tuple[str, ...] = ()
    unseen: str = TEXT

    def __post_init__(self) -> None:
        PromptedParams.__post_init__(self)
        if self.tokens < 1:
            raise ConfigError(f"prompt: tokens must be at least 1, not {self.tokens}")
        if len(set(self.categories)) < len(self.categories):
            raise ConfigError(f"prompt: a category stands twice in categories: {', '.join(self.categories)}")


class Prompt:
    """The maps of a prompted backbone as descriptors; every image of a batch goes through it once.

    It is given its backbone by `take`, and nothing but its configuration can be had before.
    """

    Params = PromptParams

    def __init__(self, params: PromptParams, *, spec: FeatureSpec) -> None:
        if params.kind == "class":
            if not params.categories:
                raise ConfigError("prompt: kind class needs categories, the names of those that are trained on")
            if params.unseen not in (TEXT, *params.categories):
                raise ConfigError(
                    f"prompt: unseen '{params.unseen}' is neither {TEXT} nor one of {', '.join(params.categories)}"
                )
        self.params = params
        self.network = params.network
        self.layers = tuple(spec.layer(name).name for name in params.latent_layers)
        self.timesteps = spec.timesteps[:1]
        self._spec = spec
        self._device = torch.device("cpu")
        self._network: PromptedNetwork | None = None
        self._prompt: PromptOfImage | None = None

    def take(self, backbone: PromptableBackbone) -> None:
        """Takes the backbone that it is to prompt; a prompt that it has already is kept.

        Raises:
            WeightsError: its prompt does not fit the backbone's text encoder.
            ConfigError: the backbone takes inputs of another size than the latents are of.
        """
        network = PromptedNetwork(self.params, backbone, spec=self._spec)
        prompt = fitting(self._prompt, _begun(self.params, backbone)).to(self._device)
        self._network, self._prompt = network, cast("PromptOfImage", prompt)

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the backbone's layer, in cells."""
        return self._taken()[0].grid

    def states(self, ids: Sequence[str]) -> Float[torch.Tensor, "_ l c"]:
        """What the cross-attentions are given for some images, one for each of them or one for all."""
        network, prompt = self._taken()
        return prompt.states(network.backbone, ids)

    def describe(self, maps: Maps, ids: Sequence[str]) -> Float[torch.Tensor, "b d gh gw"]:
        """Descriptors of images from the maps (b,1,c,h,w) of their latents; not normalised."""
        network, _ = self._taken()
        return network.in_testing(latents_of(self.params, maps, ids, device=self._device), ids, self.states(ids))

    def loss(self, batch: PairBatch) -> dict[str, Float[torch.Tensor, ""]]:
        """The mean loss of the pairs that have keypoints.

        Raises:
            DatasetError: none of them has one.
            ConfigError: a pair of two categories, or of one that has no tokens.
        """
        network, _ = self._taken()
        pairs = counted(batch)
        if self.params.kind == "class":
            for pair in pairs:
                self._learns(pair, batch.ids)
        rows = sorted({row for pair in pairs for row in (pair.source, pair.target)})
        ids = [batch.ids[row] for row in rows]
        maps = {layer: batch.maps[layer][rows] for layer in self.layers}
        latents = latents_of(self.params, maps, ids, device=self._device, step=batch.number)
        found = dict(
            zip(rows, network.in_training(latents, ids, self.states(ids), step=batch.number), strict=True),
        )
        return prompt_loss(self.params, ((found[pair.source], found[pair.target], pair) for pair in pairs))

    def _learns(self, pair: BatchPair, ids: Sequence[str]) -> None:
        """Refuses a pair for which there is not one category's prompt."""
        source, target = ids[pair.source], ids[pair.target]
        category = category_of(source)
        if category != category_of(target):
            raise ConfigError(
                f"prompt: kind class has a prompt for a category, and the pair {source}, {target} is of two. "
                "Set kind=single"
            )
        if category not in self.params.categories:
            raise ConfigError(f"prompt: the pair {source}, {target} is of no category of: {self.params.categories}")

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """The tokens, at the fit's own rate; a prompt in words has no group."""
        parameters = list(self._taken()[1].parameters())
        if parameters:
            yield {"params": parameters, "rate": 1.0}

    def state_dict(self) -> dict[str, Any]:
        """What is learnt: `tokens` (n,d), or (k,n,d) in the order of the categories, or `hidden` (l,c)."""
        return self._taken()[1].state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Takes what was learnt, strictly."""
        return self._taken()[1].load_state_dict(state)

    def to(self, device: torch.device) -> "Prompt":
        """Moves the prompt to a device; the backbone stays where it is."""
        self._device = device
        if self._prompt is not None:
            self._prompt.to(device)
        return self

    def config(self) -> dict[str, Any]:
        """The parameters that the head was built from."""
        return dataclasses.asdict(self.params)

    def _taken(self) -> tuple[PromptedNetwork, PromptOfImage]:
        if self._network is None or self._prompt is None:
            raise untaken("prompt")
        return self._network, self._prompt


def _begun(params: PromptParams, backbone: PromptableBackbone) -> PromptOfImage:
    """The prompt before it is trained."""
    beginning = Beginning(seed=params.seed, template=params.template if params.begin == "template" else None)
    if params.kind == "single":
        return SinglePrompt(backbone, count=params.tokens, beginning=beginning)
    if params.kind == "hidden-state":
        return HiddenStatePrompt(backbone, beginning=beginning)
    if params.kind == "class":
        return ClassPrompt(
            backbone,
            categories=params.categories,
            count=params.tokens,
            beginning=beginning,
            unseen=params.unseen,
            template=params.template,
        )
    return TextPrompt(params.template if params.kind == "text" else "")

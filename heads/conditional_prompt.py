"""A prompt that is made for each pair, as a head: the Conditional Prompting Module learnt through the frozen UNet.

Source: Li et al., SD4Match, CVPR 2024 (arXiv 2310.17569).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import Maps, PairBatch, PromptableBackbone
from matchkit.core.spec import FeatureSpec
from matchkit.heads.conditional import ConditionalPrompting, Formula
from matchkit.heads.prompt_kinds import room
from matchkit.heads.prompt_loss import counted, prompt_loss
from matchkit.heads.prompted import PromptedNetwork, PromptedParams, fitting, latents_of, untaken


@dataclass(frozen=True, slots=True)
class ConditionalPromptParams(PromptedParams):
    """Parameters of `conditional-prompt`, with those that all prompted heads have.

    Attributes:
        global_tokens: how many are the same for all pairs.
        conditional_tokens: how many depend on the pair. Where the text encoder has room for fewer of both together,
            each has its share of these.
        formula: of the conditional tokens, as the released `code` has it or the `paper`'s figure.
        seen: the layer of the store from which they are made.
        linear_rate: of the two linear layers, as a part of the fit's.
    """

    global_tokens: int = 25
    conditional_tokens: int = 50
    formula: Formula = "code"
    seen: str = "dino"
    linear_rate: float = 0.1

    def __post_init__(self) -> None:
        PromptedParams.__post_init__(self)
        if self.global_tokens < 0 or self.conditional_tokens < 1 or self.linear_rate < 0:
            raise ConfigError(
                "conditional-prompt: conditional_tokens must be at least 1; global_tokens and linear_rate not negative"
            )


class ConditionalPrompt:
    """The maps of a backbone prompted for a pair as descriptors; both images of a pair go through it together.

    It is given its backbone by `take`, and nothing but its configuration can be had before.
    """

    Params = ConditionalPromptParams

    def __init__(self, params: ConditionalPromptParams, *, spec: FeatureSpec) -> None:
        self.params = params
        self.network = params.network
        self.layers = tuple(spec.layer(name).name for name in (*params.latent_layers, params.seen))
        self.timesteps = spec.timesteps[:1]
        self._spec = spec
        self._device = torch.device("cpu")
        self._network: PromptedNetwork | None = None
        self._module: ConditionalPrompting | None = None

    def take(self, backbone: PromptableBackbone) -> None:
        """Takes the backbone that it is to prompt; a module that it has already is kept.

        Raises:
            WeightsError: its prompt does not fit the backbone's text encoder.
            ConfigError: the backbone takes inputs of another size than the latents are of, or too few tokens.
        """
        network = PromptedNetwork(self.params, backbone, spec=self._spec)
        module = fitting(self._module, self._begun(backbone)).to(self._device)
        self._network, self._module = network, cast("ConditionalPrompting", module)

    def _begun(self, backbone: PromptableBackbone) -> ConditionalPrompting:
        """The module before it is trained."""
        params, seen = self.params, self._spec.layer(self.params.seen)
        asked = params.global_tokens + params.conditional_tokens
        conditional = max(1, room(backbone, asked) * params.conditional_tokens // asked)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            return ConditionalPrompting(
                channels=seen.channels,
                cells=seen.grid[0] * seen.grid[1],
                width=backbone.token_width,
                global_tokens=room(backbone, asked) - conditional,
                conditional_tokens=conditional,
                formula=params.formula,
            )

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the backbone's layer, in cells."""
        return self._taken()[0].grid

    def states(
        self, source: Float[torch.Tensor, "p 1 c _ _"], target: Float[torch.Tensor, "p 1 c _ _"]
    ) -> Float[torch.Tensor, "p l k"]:
        """What the cross-attentions are given for each pair, from the maps that its sources and targets are seen by."""
        network, module = self._taken()
        of_source, of_target = (
            seen[:, 0].to(self._device, torch.float32).flatten(2).mT for seen in (source, target)
        )  # (p,cells,c), row-major
        return network.backbone.states_of_tokens(module(of_source, of_target))

    def describe_pair(self, maps: Maps, ids: Sequence[str]) -> Float[torch.Tensor, "2 d gh gw"]:
        """Descriptors of a source and a target from their maps (2,1,c,h,w); not normalised."""
        network, _ = self._taken()
        seen = maps[self.params.seen]
        latents = latents_of(self.params, maps, ids, device=self._device)
        return network.in_testing(latents, ids, self.states(seen[:1], seen[1:]))

    def loss(self, batch: PairBatch) -> dict[str, Float[torch.Tensor, ""]]:
        """The mean loss of the pairs that have keypoints.

        Raises:
            DatasetError: none of them has one.
        """
        network, _ = self._taken()
        pairs = counted(batch)
        rows = [row for pair in pairs for row in (pair.source, pair.target)]
        ids = [batch.ids[row] for row in rows]
        maps = {layer: batch.maps[layer][rows] for layer in self.layers}
        seen = maps[self.params.seen]
        states = self.states(seen[::2], seen[1::2]).repeat_interleave(2, 0)
        latents = latents_of(self.params, maps, ids, device=self._device, step=batch.number)
        found = network.in_training(latents, ids, states, step=batch.number)
        return prompt_loss(self.params, zip(found[::2], found[1::2], pairs, strict=True))

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """What stands for tokens at the fit's own rate, and the linear layers at a part of it."""
        _, module = self._taken()
        yield {"params": [module.theta_global, module.omega_pos, module.omega_alpha], "rate": 1.0}
        linear = [*module.g_d.parameters(), *module.g_n.parameters()]
        yield {"params": linear, "rate": self.params.linear_rate}

    def state_dict(self) -> dict[str, Any]:
        """The module's parameters."""
        return self._taken()[1].state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Takes the module's parameters, strictly."""
        return self._taken()[1].load_state_dict(state)

    def to(self, device: torch.device) -> "ConditionalPrompt":
        """Moves the module to a device; the backbone stays where it is."""
        self._device = device
        if self._module is not None:
            self._module.to(device)
        return self

    def config(self) -> dict[str, Any]:
        """The parameters that the head was built from."""
        return dataclasses.asdict(self.params)

    def _taken(self) -> tuple[PromptedNetwork, ConditionalPrompting]:
        if self._network is None or self._module is None:
            raise untaken("conditional-prompt")
        return self._network, self._module

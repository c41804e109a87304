"""A fitted head on disk: safetensors, with the head's configuration and the spec of its features inside."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from matchkit.core.errors import WeightsError
from matchkit.core.interfaces import Head, PromptableBackbone, PromptedHead, ReadsMaps, TrainableHead
from matchkit.core.spec import FeatureSpec
from matchkit.heads import HEADS

KEY = "matchkit"
MakeBackbone = Callable[[Mapping[str, Any]], PromptableBackbone]


@runtime_checkable
class TakesState(Protocol):
    """What parameters can be given to."""

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Takes parameters by name, strictly."""
        ...


@dataclass(frozen=True, slots=True)
class HeadWeights:
    """A fitted head as it is kept.

    Attributes:
        head: name in the table of heads.
        config: what an equal head is built from.
        spec: of the features that it was fitted on.
        tensors: its parameters by name; empty for a head without any.
        fit: how it was fitted: dataset, steps, validation score, ...
    """

    head: str
    config: Mapping[str, Any]
    spec: FeatureSpec
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the file whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        described = {"head": self.head, "config": self.config, "spec": self.spec.to_json(), "fit": self.fit}
        temporary = path.with_suffix(".tmp")
        # one key only: safetensors does not keep the order of several, and equal heads shall be equal bytes
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()},
            temporary,
            metadata={KEY: json.dumps(described, sort_keys=True)},
        )
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "HeadWeights":
        """Reads what `save` wrote.

        Raises:
            WeightsError: the file is missing, a pickle, or without a head's configuration.
        """
        if not path.exists():
            raise WeightsError(f"no head at {path}. Run: matchkit fit-head")
        try:
            with safe_open(path, framework="pt") as file:
                described = json.loads((file.metadata() or {})[KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return cls(
                described["head"],
                described["config"],
                FeatureSpec.from_json(described["spec"]),
                tensors,
                described["fit"],
            )
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise WeightsError(f"{path} is not a head of matchkit in safetensors: {error}") from error

    def build(self, *, device: torch.device, backbones: MakeBackbone | None = None) -> Head:
        """The head, ready to describe maps of its spec.

        Args:
            device: where it computes.
            backbones: makes the backbone of a head that is to be given one, from its parameters.

        Raises:
            WeightsError: the parameters are not those of the configuration, or the head needs a backbone and none can
                be made.
        """
        head: Head = HEADS.build(self.head, self.config, where=f"head '{self.head}'", spec=self.spec)
        if isinstance(head, PromptedHead):
            if backbones is None:
                raise WeightsError(f"head '{self.head}' prompts a backbone, and here it is given none")
            head.take(backbones(head.network))
        if isinstance(head, TrainableHead):
            self.give(head)
            head.to(device)
        return head

    def give(self, head: TakesState) -> None:
        """Gives a head the parameters.

        Raises:
            WeightsError: they are not those of its configuration.
        """
        try:
            head.load_state_dict(dict(self.tensors))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise WeightsError(f"the weights do not fit head '{self.head}': {reason}") from error


def keep(head: ReadsMaps, name: str, *, spec: FeatureSpec, fit: Mapping[str, Any]) -> HeadWeights:
    """The head called `name` as it is to be kept."""
    tensors = head.state_dict() if isinstance(head, TrainableHead) else {}
    return HeadWeights(name, head.config(), spec, tensors, fit)

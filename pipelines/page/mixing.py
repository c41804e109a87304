"""The mixing weights of a fitted head over layers and timesteps, from its weights alone."""

from dataclasses import dataclass

from matchkit.heads import HEADS
from matchkit.heads.weights import HeadWeights

NAME = "mixing_weights"
"""The published name of the parameter. Source: Luo et al., Diffusion Hyperfeatures, NeurIPS 2023 (arXiv 2305.14334)."""


@dataclass(frozen=True, slots=True)
class Mixing:
    """How much of a descriptor comes from where, in percent.

    Attributes:
        layers: the rows.
        timesteps: the columns.
        shares: a row a layer.
    """

    layers: tuple[str, ...]
    timesteps: tuple[int, ...]
    shares: tuple[tuple[float, ...], ...]

    def shade(self, share: float) -> float:
        """Where a share lies between the least one and the greatest one, in 0..1; 1 where all are equal."""
        every = [value for row in self.shares for value in row]
        least, most = min(every), max(every)
        return (share - least) / (most - least) if most > least else 1.0

    @property
    def of_layers(self) -> tuple[float, ...]:
        """The sum of each row."""
        return tuple(sum(row) for row in self.shares)

    @property
    def of_timesteps(self) -> tuple[float, ...]:
        """The sum of each column."""
        return tuple(map(sum, zip(*self.shares, strict=True)))


def mixing(kept: HeadWeights) -> Mixing | None:
    """The shares of a head that mixes layers and timesteps by one softmax; None of any other head.

    The parameter has a number a timestep and layer, in this order.
    """
    found = [tensor for name, tensor in kept.tensors.items() if name.rpartition(".")[2] == NAME]
    if len(found) != 1:
        return None
    head = HEADS.build(kept.head, kept.config, where=f"head '{kept.head}'", spec=kept.spec)
    layers, timesteps = tuple(head.layers), tuple(head.timesteps)
    if found[0].numel() != len(layers) * len(timesteps):
        return None
    shares = 100 * found[0].detach().flatten().float().softmax(0).unflatten(0, (len(timesteps), len(layers))).T
    return Mixing(layers, timesteps, tuple(tuple(row) for row in shares.tolist()))

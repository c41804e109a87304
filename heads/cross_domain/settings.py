"""What a cross-domain head is told."""

from dataclasses import dataclass
from typing import Literal

from matchkit.core.conditions import ConditionKind
from matchkit.core.errors import ConfigError

FUSED = 8
"""What the widths of fused attention's queries are multiples of, on a GPU in half precision."""


@dataclass(frozen=True, slots=True)
class CrossDomainParams:
    """Parameters of `cross-domain`; the losses' are weights, 0 leaves a term out.

    Attributes:
        kind: of the conditions.
        channels: of a condition, as the network is given it.
        neutral: the value of each channel that says nothing, which is taken off; none told means 0.
        side: of a condition's picture in pixels.
        grid: the side of the grid on which is matched, in cells; `side` is this times a power of two, and four times
            this for the paper's adapters.
        adapters: `small` ones over cached maps, or the `paper`'s over photographs.
        width: of the networks; of the paper's, four times that of the first layer.
        out: of the shared space; the paper's is as wide as its `width`.
        layers: of the cached maps that are read; none named takes all.
        timestep: of all layers; None takes the first.
        photo_side: of the photograph's picture in pixels that the small adapter sees beside the maps; 0 for none.
        kernel: of the paper's adapters, 3 or 4.
        mix: what the paper's trunk sees beside the shared space.
        temperature: of the softmax.
        warm: the temperature that a fit begins with.
        annealed: the share of a fit's steps over which it falls, geometrically; 0 begins at the end.
        semantic_layer: whose features tell what is alike; "" takes the last layer.
        domain: a condition and its own photograph, apart in the shared space.
        semantic: the exemplar's features, warped, against the target's.
        same: a warped pseudo exemplar against its target.
        cycle: an exemplar against what comes back of it.
        parts: the exemplar's parts, warped, against the target's; only where parts are known.
        contrast: the right match in a distorted copy of a condition's own photograph.
        sampled: cells that are asked for the contrast.
        seed: of the weights at the start and of all that is drawn.
    """

    kind: ConditionKind = "mask"
    channels: int = 3
    neutral: tuple[float, ...] = ()
    side: int = 64
    grid: int = 32
    adapters: Literal["small", "paper"] = "small"
    width: int = 128
    out: int = 128
    layers: tuple[str, ...] = ()
    timestep: int | None = None
    photo_side: int = 0
    kernel: Literal[3, 4] = 3
    mix: Literal["none", "own", "noise"] = "none"
    temperature: float = 0.01
    warm: float = 0.1
    annealed: float = 0.6
    semantic_layer: str = ""
    domain: float = 0.1
    semantic: float = 2.0
    same: float = 5.0
    cycle: float = 1.0
    parts: float = 1.0
    contrast: float = 0.3
    sampled: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        weights = (self.domain, self.semantic, self.same, self.cycle, self.parts, self.contrast)
        if min(weights) < 0:
            raise ConfigError("cross-domain: the weights of losses must not be negative")
        if min(self.channels, self.side, self.grid, self.width, self.out, self.sampled) < 1:
            raise ConfigError("cross-domain: channels, side, grid, width, out and sampled must be at least 1")
        if self.adapters == "paper" and self.width % 4:
            raise ConfigError(f"cross-domain: the paper's adapters need a width of a multiple of 4, not {self.width}")
        if self.adapters == "small" and self.out % FUSED:
            raise ConfigError(f"cross-domain: out must be a multiple of {FUSED}, not {self.out}")
        if min(self.temperature, self.warm) <= 0 or not 0 <= self.annealed <= 1:
            raise ConfigError("cross-domain: temperatures must be positive, annealed must lie in 0..1")
        if self.neutral and len(self.neutral) != self.channels:
            raise ConfigError(f"cross-domain: neutral has {len(self.neutral)} values for {self.channels} channels")

    @property
    def learns(self) -> bool:
        """Whether any term moves it."""
        return any((self.domain, self.semantic, self.same, self.cycle, self.parts, self.contrast))

    def temperature_at(self, progress: float) -> float:
        """The temperature when a share of the fit's steps lies behind."""
        if not self.annealed:
            return self.temperature
        share = min(1.0, progress / self.annealed)
        return float(self.warm * (self.temperature / self.warm) ** share)

    def halvings(self, side: int) -> int:
        """How often a picture of a side is halved to come to the grid.

        Raises:
            ConfigError: no number of halvings does it.
        """
        times = max(side // self.grid, 1)
        if self.grid * times != side or times & (times - 1):
            raise ConfigError(
                f"cross-domain: a picture of {side} pixels does not come to a grid of {self.grid} cells by halving; "
                "render conditions of another side, or set grid"
            )
        return times.bit_length() - 1

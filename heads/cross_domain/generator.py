"""The translation network: a picture grown from a few cells, modulated at every size by what it shall show.

Source: Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571); CoCosNet §2.2.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.heads.cross_domain.spade import HIDDEN, SLOPE, NonLocal, SpadeBlock


@dataclass(frozen=True, slots=True)
class GeneratorParams:
    """The plan of a generator; the defaults are the published one, 8 to 256 pixels with seven blocks.

    Attributes:
        width: channels at the full size. They double with each halving of the size, but for the smallest size, which
            has those of the next one.
        ups: how often the size is doubled, 1 or more; a picture's sides are multiples of 2 to the power of it.
        middle: blocks after the first doubling, 1 or more; at the other sizes there is one.
        attention: whether there is a non-local block before the last doubling but one has its block.
        modulation: channels between what the picture shall show and what it is modulated with.
    """

    width: int = 64
    ups: int = 5
    middle: int = 2
    attention: bool = True
    modulation: int = HIDDEN

    def __post_init__(self) -> None:
        least = {"width": 2, "ups": 1, "middle": 1, "modulation": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(f"generator: {name} must be {value} or more, not {getattr(self, name)}")
        if self.attention and self.ups < 2:
            raise ConfigError("generator: attention needs ups of 2 or more; set attention to false")

    def channels(self, level: int) -> int:
        """Channels after the block of a level: 0 is the smallest size, `ups` the full one."""
        return self.width << (self.ups - max(level, 1))


class Generator(nn.Module):
    """A warped exemplar and a condition to a picture; both modulate every block.

    Args:
        params: its plan.
        condition_channels: of the condition.
        exemplar_channels: of the warped exemplar, be it a photograph or a latent.
        out_channels: of the picture.
    """

    def __init__(
        self, params: GeneratorParams, *, condition_channels: int, exemplar_channels: int, out_channels: int
    ) -> None:
        super().__init__()
        self.params = params
        shown = exemplar_channels + condition_channels
        self.start = nn.Conv2d(shown, params.channels(0), 3, padding=1)
        self.levels = nn.ModuleList()
        for level in range(params.ups + 1):
            before, after = params.channels(max(level - 1, 0)), params.channels(level)
            count = params.middle if level == 1 else 1
            self.levels.append(
                nn.ModuleList(
                    SpadeBlock(before, after, condition_channels=shown, hidden=params.modulation) for _ in range(count)
                )
            )
        self.attention = NonLocal(params.channels(params.ups - 2)) if params.attention else None
        self.finish = nn.Conv2d(params.width, out_channels, 3, padding=1)

    def forward(
        self, warped: Float[torch.Tensor, "b e h w"], condition: Float[torch.Tensor, "b c h w"]
    ) -> Float[torch.Tensor, "b o h w"]:
        """The picture as it comes: not bounded, for the published `tanh` is the caller's.

        Raises:
            ConfigError: a side is no multiple of 2 to the power of `ups`, or only once that.
        """
        shown = torch.cat([warped, condition], 1)
        x = self.start(functional.interpolate(shown, size=self._smallest(shown), mode="nearest"))
        for level, blocks in enumerate(self.levels):
            if level:
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
            if self.attention is not None and level == self.params.ups - 1:
                x = self.attention(x)
            for block in blocks.children():
                x = block(x, shown)
        picture: torch.Tensor = self.finish(functional.leaky_relu(x, SLOPE))
        return picture

    def _smallest(self, shown: Float[torch.Tensor, "b c h w"]) -> tuple[int, int]:
        """(height, width) of what the picture is grown from; the blocks' reflection needs two cells each way."""
        step = 1 << self.params.ups
        height, width = shown.shape[2:]
        if height % step or width % step or min(height, width) < 2 * step:
            raise ConfigError(
                f"a generator of {self.params.ups} doublings makes sides of {2 * step} and more that are multiples of "
                f"{step}, not {height} x {width}: set ups to another number, or take another size"
            )
        return height // step, width // step

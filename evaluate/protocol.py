"""What a number means: thresholds, reference lengths, the comparison, and over what is averaged."""

from dataclasses import dataclass
from typing import Literal

from matchkit.core.errors import ConfigError

Reference = Literal["box", "image"]
Average = Literal["keypoint", "image", "category", "pair-weighted"]
Breakdown = Literal["geometry", "azimuth"]
FEWEST_RESAMPLES = 100
"""Of fewer, the 2.5 % quantile is the luck of one or two."""


@dataclass(frozen=True, slots=True)
class EvalProtocol:
    """A protocol of PCK, the share of keypoints whose error is within alpha times a reference length.

    Errors and reference lengths are measured in original pixels of the target.

    Attributes:
        alphas: the thresholds.
        references: `box`, the longer edge of the target's box; `image`, the longer edge of the target image.
        comparison: whether an error of exactly alpha times the reference counts.
        breakdowns: what else is scored by itself: `geometry`, the keypoints that look like others in the target;
            `azimuth`, the pairs by the change of viewpoint.
        resamples: how often the images are drawn again for the 95 % intervals; 0 for no intervals.

    Raises:
        ConfigError: no alpha or reference, alphas that are not positive and distinct, or too few resamples.
    """

    alphas: tuple[float, ...] = (0.05, 0.10, 0.15)
    references: tuple[Reference, ...] = ("box", "image")
    comparison: Literal["<=", "<"] = "<="
    breakdowns: tuple[Breakdown, ...] = ()
    resamples: int = 2000

    def __post_init__(self) -> None:
        if not self.alphas or not self.references or min(self.alphas) <= 0 or len(set(self.names)) < len(self.alphas):
            raise ConfigError(f"a protocol needs positive, distinct alphas and a reference, not {self}")
        if self.resamples != 0 and self.resamples < FEWEST_RESAMPLES:
            raise ConfigError(f"resamples must be 0 or at least {FEWEST_RESAMPLES}, not {self.resamples}")

    @property
    def names(self) -> tuple[str, ...]:
        """The alphas as they stand in reports and tables, e.g. `0.05`, `0.10`, `0.125`."""
        return tuple(max(f"{alpha:.2f}", f"{alpha:g}", key=len) for alpha in self.alphas)

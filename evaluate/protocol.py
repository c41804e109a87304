"""What a number means: thresholds, reference lengths, the comparison, and over what is averaged."""

from dataclasses import dataclass
from typing import Literal

from matchkit.core.errors import ConfigError

Reference = Literal["box", "image"]
Average = Literal["keypoint", "image", "category"]


@dataclass(frozen=True, slots=True)
class EvalProtocol:
    """A protocol of PCK, the share of keypoints whose error is within alpha times a reference length.

    Errors and reference lengths are measured in original pixels of the target.

    Attributes:
        alphas: the thresholds.
        references: `box`, the longer edge of the target's box; `image`, the longer edge of the target image.
        comparison: whether an error of exactly alpha times the reference counts.
    """

    alphas: tuple[float, ...] = (0.05, 0.10, 0.15)
    references: tuple[Reference, ...] = ("box", "image")
    comparison: Literal["<=", "<"] = "<="

    def __post_init__(self) -> None:
        if not self.alphas or not self.references or min(self.alphas) <= 0 or len(set(self.names)) < len(self.alphas):
            raise ConfigError(f"a protocol needs positive, distinct alphas and a reference, not {self}")

    @property
    def names(self) -> tuple[str, ...]:
        """The alphas as they stand in reports and tables, e.g. `0.05`, `0.10`, `0.125`."""
        return tuple(max(f"{alpha:.2f}", f"{alpha:g}", key=len) for alpha in self.alphas)

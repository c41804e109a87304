"""What a number means: thresholds, reference lengths, the comparison, and over what is averaged."""

from dataclasses import dataclass
from typing import Literal

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

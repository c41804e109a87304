"""What a number means: the frame, the reference lengths, the comparison, which pairs count, and the average."""

from dataclasses import dataclass
from typing import Literal

from matchkit.core.errors import ConfigError

Frame = Literal["original", "letterbox", "squash"]
Reference = Literal["box", "image", "keypoints"]
Average = Literal["keypoint", "image", "category", "category-keypoint", "pair-weighted"]
Breakdown = Literal["geometry", "azimuth", "viewpoint", "scale", "truncation", "occlusion", "mirror"]
FEWEST_RESAMPLES = 100
"""Of fewer, the 2.5 % quantile is the luck of one or two."""


@dataclass(frozen=True, slots=True)
class EvalProtocol:
    """A protocol of PCK, the share of keypoints whose error is within alpha times a reference length.

    Errors and reference lengths are those of the target, measured in the protocol's frame.

    Attributes:
        alphas: the thresholds.
        references: `box`, the longer edge of the target's box; `image`, that of the target image, which is the side of
            a square frame; `keypoints`, the longer edge of the extent of the target's keypoints. The first one is the
            headline's.
        comparison: whether an error of exactly alpha times the reference counts.
        breakdowns: what else is scored by itself: `geometry`, the keypoints that look like others in the target;
            `azimuth`, the pairs by the change of viewpoint; all others, the pairs by what the dataset says of them.
        resamples: how often the images are drawn again for the 95 % intervals; 0 for no intervals.
        frame: where points, boxes and distances live: `original` pixels; a square of which the image fills one
            direction with its aspect ratio kept, `letterbox`; a square that the image fills without it, `squash`.
        side: of the square frame in pixels; 0 for original pixels.
        floored: which of the target's keypoints' coordinates lose their fractions, `nothing`, those in `original`
            pixels, or those in the `frame`.
        average: the headline's; a report has them all.
        pairs_a_category: how many pairs of each category count, at most; 0 for all. See `subsets.chosen`.
        viewpoint: the pairs of this `viewpoint_variation` alone; None for all.
        subset: a file that lists the pairs which count; "" for all.
        subset_digest: the first 12 hexadecimal digits of the SHA-256 of that file; "" for any content.
        name: of the protocol; "" for one's own.
        source: where the protocol is told.

    Raises:
        ConfigError: no alpha or reference, alphas that are not positive and distinct, too few resamples, a square frame
            without a side or a side without one, or a subset of less than no pairs.
    """

    alphas: tuple[float, ...] = (0.05, 0.10, 0.15)
    references: tuple[Reference, ...] = ("box", "image")
    comparison: Literal["<=", "<"] = "<="
    breakdowns: tuple[Breakdown, ...] = ()
    resamples: int = 2000
    frame: Frame = "original"
    side: int = 0
    floored: Literal["nothing", "original", "frame"] = "nothing"
    average: Average = "keypoint"
    pairs_a_category: int = 0
    viewpoint: int | None = None
    subset: str = ""
    subset_digest: str = ""
    name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not self.alphas or not self.references or min(self.alphas) <= 0 or len(set(self.names)) < len(self.alphas):
            raise ConfigError(f"a protocol needs positive, distinct alphas and a reference, not {self}")
        if self.resamples != 0 and self.resamples < FEWEST_RESAMPLES:
            raise ConfigError(f"resamples must be 0 or at least {FEWEST_RESAMPLES}, not {self.resamples}")
        if (self.frame == "original") != (self.side == 0) or self.side < 0:
            raise ConfigError(
                f"the frames letterbox and squash need a side in pixels, and original has none, not side={self.side} "
                f"of frame={self.frame}"
            )
        if self.pairs_a_category < 0:
            raise ConfigError(f"pairs_a_category must be 0, for all, or more, not {self.pairs_a_category}")

    @property
    def names(self) -> tuple[str, ...]:
        """The alphas as they stand in reports and tables, e.g. `0.05`, `0.10`, `0.125`."""
        return tuple(max(f"{alpha:.2f}", f"{alpha:g}", key=len) for alpha in self.alphas)

    @property
    def frame_name(self) -> str:
        """The frame as it stands in tables, e.g. `original`, `letterbox 840`."""
        return f"{self.frame} {self.side}" if self.side else self.frame

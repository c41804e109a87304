"""What matches tell beside their PCK: which part they are of, how sure they are, and what the target does not show."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

COVERAGES = tuple(range(5, 101, 5))
"""How many of the keypoints, the surest ones in percent, the risks of `Trust` are of."""
Shares = Mapping[str, float]
ByAlpha = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trust:
    """How far one kind of evidence can be trusted; all in percent.

    Attributes:
        aurc: the area under the risk-coverage curve; 0 is best, and the share of wrong ones is what chance has.
        auroc: how likely a correct match scores above a wrong one; 50 is chance. None where all are of one kind.
        ece: the expected calibration error of a probability; None of other evidence.
        risks: the share of wrong ones among the surest `COVERAGES`.
    """

    aurc: float
    auroc: float | None
    ece: float | None
    risks: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class WayBack:
    """What comes of matching back.

    Attributes:
        cycle: the mean cycle error in pixels of the source image.
        mutual: how many of the keypoints are mutually nearest, in percent.
        pck: of these, in percent, by reference and alpha; of no reference where there are none.
    """

    cycle: float
    mutual: float
    pck: Mapping[str, ByAlpha]


@dataclass(frozen=True, slots=True)
class Analyses:
    """What is known beside the scores; all in percent, and empty where the dataset or the predictions do not tell.

    Attributes:
        symmetry: what lies at the found place, by reference, alpha and kind (`symmetry.KINDS`); the kinds sum to 100.
        categories: the same by category, e.g. `categories["box"]["cat"]["0.10"]["wrong side"]`.
        dagger: PCK-dagger, as the scores of a report.
        kap: the keypoint average precision by variant (`paper`, `code`), average (`keypoint`, `image`) and alpha.
        visibility: how likely a keypoint that the target shows has a greater similarity than one that it does not.
        trust: by reference, alpha and kind of evidence.
        way_back: of all keypoints.
    """

    symmetry: Mapping[str, Mapping[str, Shares]] = field(default_factory=dict)
    categories: Mapping[str, Mapping[str, Mapping[str, Shares]]] = field(default_factory=dict)
    dagger: Mapping[str, Mapping[str, ByAlpha]] = field(default_factory=dict)
    kap: Mapping[str, Mapping[str, ByAlpha]] = field(default_factory=dict)
    visibility: float | None = None
    trust: Mapping[str, Mapping[str, Mapping[str, Trust]]] = field(default_factory=dict)
    way_back: WayBack | None = None

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Analyses":
        """What `dataclasses.asdict` told, and JSON of that."""
        trust = {
            reference: {
                alpha: {name: Trust(**{**entry, "risks": tuple(entry["risks"])}) for name, entry in of_evidence.items()}
                for alpha, of_evidence in by_alpha.items()
            }
            for reference, by_alpha in told["trust"].items()
        }
        way_back = None if told["way_back"] is None else WayBack(**told["way_back"])
        return cls(**{**told, "trust": trust, "way_back": way_back})

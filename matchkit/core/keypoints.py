"""What is known of a category's keypoints beside where they are: which mirror each other, and which look alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matchkit.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class KeypointScheme:
    """The symmetry of a category's keypoints, by the dataset's raw ids.

    Attributes:
        flips: pairs of keypoints that a mirrored image exchanges, as the left and the right paw; all others keep their
            name.
        groups: keypoints of one kind, as all four paws, that only geometry tells apart; two or more a group.

    Raises:
        ConfigError: a keypoint stands in two pairs or in two groups, or alone in a group.
    """

    flips: tuple[tuple[str, str], ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    _partners: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for kind, sets in (("pairs", self.flips), ("groups", self.groups)):
            _refuse_twice([keypoint for members in sets for keypoint in members], kind)
        alone = [group for group in self.groups if len(group) < 2]
        if alone:
            raise ConfigError(f"a group has two keypoints or more, not {list(alone[0])}")
        partners = {one: other for pair in self.flips for one, other in (pair, pair[::-1])}
        object.__setattr__(self, "_partners", partners)

    def partner(self, keypoint: str) -> str:
        """What a keypoint of the mirrored image is of the object; one of the middle stays what it is."""
        return self._partners.get(keypoint, keypoint)


def _refuse_twice(keypoints: Sequence[str], kind: str) -> None:
    twice = sorted({keypoint for keypoint in keypoints if keypoints.count(keypoint) > 1})
    if twice:
        raise ConfigError(f"keypoint '{twice[0]}' stands in two {kind} of one scheme")

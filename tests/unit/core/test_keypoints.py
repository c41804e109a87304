"""The symmetry of a category's keypoints."""

import pytest

from matchkit.core.errors import ConfigError
from matchkit.core.keypoints import KeypointScheme

PAWS = ("7", "10", "13", "16")
DOG = KeypointScheme(flips=(("0", "1"), ("7", "10"), ("13", "16")), groups=(PAWS,))


def test_a_mirrored_image_exchanges_the_pairs() -> None:
    assert [DOG.partner(name) for name in ("0", "1", "7", "10", "16")] == ["1", "0", "10", "7", "13"]


def test_a_keypoint_of_the_middle_stays_what_it_is() -> None:
    assert DOG.partner("2") == "2"
    assert KeypointScheme().partner("nose") == "nose"


def test_schemes_of_the_same_tables_are_equal() -> None:
    again = KeypointScheme(flips=DOG.flips, groups=DOG.groups)
    assert (again, hash(again)) == (DOG, hash(DOG))
    assert again != KeypointScheme(flips=DOG.flips)


@pytest.mark.parametrize("flips", [(("0", "1"), ("1", "2")), (("0", "0"),), (("0", "1"), ("1", "0"))])
def test_a_keypoint_in_two_pairs_is_refused(flips: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ConfigError, match=r"keypoint '[01]' stands in two pairs of one scheme"):
        KeypointScheme(flips=flips)


def test_a_keypoint_in_two_groups_is_refused() -> None:
    with pytest.raises(ConfigError, match="keypoint '7' stands in two groups of one scheme"):
        KeypointScheme(groups=(PAWS, ("7", "8")))


def test_a_keypoint_alone_is_no_group() -> None:
    with pytest.raises(ConfigError, match=r"a group has two keypoints or more, not \['2'\]"):
        KeypointScheme(groups=(PAWS, ("2",)))

"""Records of posed copies, and the ids that tell them."""

from pathlib import Path

import pytest

from matchkit.core.errors import DatasetError
from matchkit.core.poses import ENDINGS, Pose, pose_of, posed, posed_id, posed_size, unposed_id
from matchkit.core.records import ImageRecord

RECORD = ImageRecord("dog/a", Path("dog/a.jpg"), (40, 30), "dog", azimuth=2, keypoints={"3": (1.0, 2.0)})


def test_the_endings_are_those_of_the_stores_that_there_are() -> None:
    assert dict(ENDINGS) == {"none": "", "hflip": "@flip", "rot90": "@rot90", "rot270": "@rot270"}


@pytest.mark.parametrize("pose", ENDINGS)
def test_an_id_tells_its_pose_and_its_image(pose: Pose) -> None:
    for plain in ("dog/a", "a@b", "flip", "rot90"):
        assert pose_of(posed_id(plain, pose)) == pose
        assert unposed_id(posed_id(plain, pose)) == plain


def test_what_only_looks_like_an_ending_is_none() -> None:
    for image_id in ("@flip/a", "a@flipped", "aflip", "a@rot180", "a@Flip"):
        assert pose_of(image_id) == "none"
        assert unposed_id(image_id) == image_id


def test_no_pose_is_the_record_itself() -> None:
    assert posed(RECORD, "none") is RECORD


def test_a_mirrored_copy_is_the_same_file_under_another_id() -> None:
    copy = posed(RECORD, "hflip")
    assert (copy.id, copy.path, copy.size, copy.category) == ("dog/a@flip", RECORD.path, (40, 30), "dog")


@pytest.mark.parametrize(("pose", "ending"), [("rot90", "@rot90"), ("rot270", "@rot270")])
def test_a_turned_copy_has_width_and_height_exchanged_and_its_azimuth_kept(pose: Pose, ending: str) -> None:
    copy = posed(RECORD, pose)
    assert (copy.id, copy.path, copy.size, copy.azimuth) == (f"dog/a{ending}", RECORD.path, (30, 40), 2)


@pytest.mark.parametrize("pose", ["hflip", "rot90", "rot270"])
def test_a_copy_says_nothing_of_keypoints(pose: Pose) -> None:
    """Their places are posed too, and those of a mirrored image change their names."""
    assert posed(RECORD, pose).keypoints == {}


@pytest.mark.parametrize(("azimuth", "seen"), [(0, 0), (1, 7), (3, 5), (4, 4), (6, 2), (None, None)])
def test_what_showed_its_left_shows_its_right(azimuth: int | None, seen: int | None) -> None:
    copy = posed(ImageRecord("dog/a", RECORD.path, (40, 30), azimuth=azimuth), "hflip")
    assert copy.azimuth == seen


@pytest.mark.parametrize("pose", ENDINGS)
def test_the_size_of_a_copy_leads_back(pose: Pose) -> None:
    assert posed_size(posed_size((40, 30), pose), pose) == (40, 30)


@pytest.mark.parametrize("pose", ENDINGS)
@pytest.mark.parametrize("own", ["hflip", "rot90", "rot270"])
def test_a_copy_is_not_posed_again(own: Pose, pose: Pose) -> None:
    ending = ENDINGS[own]
    with pytest.raises(
        DatasetError, match=rf"image 'dog/a{ending}': the ending {ending} is kept for posed copies; rename dog/a\.jpg"
    ):
        posed(posed(RECORD, own), pose)

"""Records of mirrored copies."""

from pathlib import Path

import pytest

from matchkit.core.errors import DatasetError
from matchkit.core.records import ImageRecord, mirrored

RECORD = ImageRecord("dog/a", Path("dog/a.jpg"), (40, 30), "dog", azimuth=2)


def test_a_mirrored_copy_is_the_same_file_under_another_id() -> None:
    copy = mirrored(RECORD)
    assert (copy.id, copy.path, copy.size, copy.category) == ("dog/a@flip", RECORD.path, (40, 30), "dog")


@pytest.mark.parametrize(("azimuth", "seen"), [(0, 0), (1, 7), (3, 5), (4, 4), (6, 2), (None, None)])
def test_what_showed_its_left_shows_its_right(azimuth: int | None, seen: int | None) -> None:
    copy = mirrored(ImageRecord("dog/a", RECORD.path, (40, 30), azimuth=azimuth))
    assert copy.azimuth == seen


def test_a_copy_is_not_mirrored_again() -> None:
    with pytest.raises(
        DatasetError, match=r"image 'dog/a@flip': the ending @flip is kept for mirrored copies; rename dog/a\.jpg"
    ):
        mirrored(mirrored(RECORD))

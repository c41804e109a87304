"""Contact sheets, and conditions and confidences as pictures."""

import numpy as np
import pytest
import torch

from matchkit.core.conditions import ConditionSpec
from matchkit.core.errors import ConfigError
from matchkit.extract.conditions.edges import drawing_spec
from matchkit.extract.conditions.masks import mask_spec
from matchkit.extract.conditions.pose import pose_spec
from matchkit.pipelines.picture_sheet import GAP, LINE, PAPER, as_bytes, condition_picture, contact_sheet, heat


def plain(colour: tuple[int, int, int], *, height: int = 4, width: int = 4) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


@pytest.mark.parametrize("captions", [(), ("one", "other")])
def test_every_picture_stands_in_its_row_and_column(captions: tuple[str, ...]) -> None:
    sheet = contact_sheet(
        [[plain(RED), plain(GREEN)], [plain(BLUE), plain(RED)]], columns=["a", "b"], captions=captions, side=40
    )
    line = LINE if captions else 0
    assert sheet.size == (3 * GAP + 80, GAP + LINE + 2 * (40 + GAP + line))
    left, right = GAP + 20, 2 * GAP + 60
    first, second = GAP + LINE + line + 20, 2 * GAP + LINE + 2 * line + 60
    places = [(left, first), (right, first), (left, second), (right, second)]
    assert [sheet.getpixel(place) for place in places] == [RED, GREEN, BLUE, RED]


def test_captions_are_written_and_cut() -> None:
    rows = [[plain(PAPER)]]
    sheets = [np.asarray(contact_sheet(rows, columns=[title], side=40)) for title in ("", "a", 200 * "a")]
    assert (sheets[0] == 255).all()
    assert (sheets[1][:LINE] < 255).any()
    assert (sheets[2][:, -GAP:] == 255).all()


def test_a_picture_keeps_its_shape_and_a_small_one_its_pixels() -> None:
    picture = plain(RED, height=2, width=4)
    picture[:, 2:] = GREEN
    tile = np.asarray(contact_sheet([[picture]], columns=[""], side=40))[GAP + LINE :, GAP : GAP + 40][:40]
    assert (tile[:10] == 255).all()
    assert (tile[30:] == 255).all()
    assert (tile[10:30, :20] == RED).all()
    assert (tile[10:30, 20:] == GREEN).all()


@pytest.mark.parametrize(
    ("rows", "captions"), [([], ()), ([[plain(RED)], [plain(RED)] * 2], ()), ([[plain(RED)]], ("one", "other"))]
)
def test_a_sheet_that_does_not_fit(rows: list[list[np.ndarray]], captions: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="a contact sheet of 1 columns"):
        contact_sheet(rows, columns=["a"], captions=captions)


def test_bytes_of_pixels() -> None:
    pixels = torch.tensor([0.0, 0.5, 1.2]).view(3, 1, 1).expand(-1, 2, 3)
    assert as_bytes(pixels).tolist() == plain((0, 128, 255), height=2, width=3).tolist()


def test_heat_from_dark_blue_to_yellow() -> None:
    assert heat(torch.tensor([[0.0, 1.0]])).tolist() == [[[68, 1, 84], [253, 231, 36]]]


def test_conditions_as_pictures() -> None:
    mask = condition_picture(torch.eye(3).view(3, 1, 3), mask_spec(["background", "ear", "eye"]))
    assert mask[0, 0].tolist() == [0, 0, 0]
    assert len({tuple(colour) for colour in mask[0].tolist()}) == 3
    edge = condition_picture(torch.tensor([1.0, 0.3]).view(2, 1, 1), drawing_spec())
    assert edge.tolist() == [[[255, 255, 255]]]
    pose = torch.zeros(len(pose_spec().channels), 1, 1)
    pose[:3, 0, 0] = torch.tensor([1.0, 0.0, 0.2])
    assert condition_picture(pose, pose_spec()).tolist() == [[[255, 0, 51]]]


@pytest.mark.parametrize("spec", [drawing_spec(), mask_spec(["a", "b", "c", "d"])])
def test_a_condition_of_another_spec(spec: ConditionSpec) -> None:
    with pytest.raises(ConfigError, match="a condition of 3 channels is no"):
        condition_picture(torch.zeros(3, 2, 2), spec)

"""What pictures tell the two calls of a step, without networks."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.extract.backbones.control_net import ControlNet
from matchkit.extract.backbones.ip_adapter import IPAdapter
from matchkit.extract.backbones.picture_conditions import PictureConditions
from matchkit.extract.backbones.stable_diffusion import Further

PICTURES = torch.zeros(2, 3, 4, 4)
CALL = (torch.zeros(2, 4, 8, 8), torch.zeros(2), torch.zeros(2, 6, 8))


def saying(**words: Any) -> Further:
    return lambda latents, times, states: words


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], PictureConditions]:
    monkeypatch.setattr(ControlNet, "told", lambda self, condition, grid: saying(drawn=grid))
    monkeypatch.setattr(IPAdapter, "told", lambda self, pictures: (saying(shown=1), saying(shown=0)))

    def built(parts: str) -> PictureConditions:
        control, adapter = (object.__new__(kind) for kind in (ControlNet, IPAdapter))
        return PictureConditions(
            cast("ControlNet", control) if "c" in parts else None, cast("IPAdapter", adapter) if "i" in parts else None
        )

    return built


@pytest.mark.parametrize(
    ("parts", "wanted", "unwanted"),
    [
        ("c", {"drawn": (8, 8)}, {"drawn": (8, 8)}),
        ("i", {"shown": 1}, {"shown": 0}),
        ("ci", {"drawn": (8, 8), "shown": 1}, {"drawn": (8, 8), "shown": 0}),
    ],
)
def test_a_condition_is_told_twice_and_an_exemplar_once(
    build: Callable[[str], PictureConditions], parts: str, wanted: dict[str, Any], unwanted: dict[str, Any]
) -> None:
    told = build(parts).told(2, (8, 8), condition=PICTURES, exemplar=PICTURES)
    assert [further(*CALL) if further else None for further in told] == [wanted, unwanted]


def test_nothing_is_told_where_there_is_nothing(build: Callable[[str], PictureConditions]) -> None:
    assert build("").told(2, (8, 8), condition=PICTURES, exemplar=None) == (None, None)


def test_pictures_that_are_missing(build: Callable[[str], PictureConditions]) -> None:
    with pytest.raises(ConfigError, match=r"controlnet wants the condition as a picture .* or set controlnet=''"):
        build("c").told(2, (8, 8), condition=None, exemplar=PICTURES)
    with pytest.raises(ConfigError, match=r"ip_adapter wants the exemplar as a picture .* or set ip_adapter=''"):
        build("i").told(2, (8, 8), condition=PICTURES, exemplar=None)
    with pytest.raises(ConfigError, match="2 pictures as exemplar for 3 latents"):
        build("i").told(3, (8, 8), condition=None, exemplar=PICTURES)

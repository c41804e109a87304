"""The mean colour a cell."""

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.records import Canvas
from matchkit.extract.backbones.pixels import Pixels, PixelsParams

CPU = torch.device("cpu")


def test_a_cell_is_its_mean_colour_in_minus_one_to_one() -> None:
    images = torch.zeros(1, 3, 4, 4)
    images[0, 0, :2, :2] = torch.tensor([[0.0, 1.0], [1.0, 0.5]])  # the first cell's red: mean 0.625
    images[0, 2, 2:, 2:] = 1  # the last cell is blue
    maps = Pixels(PixelsParams(input_size=4, cell=2, dtype="fp32"), device=CPU)(images, ["a"])
    assert maps["rgb"].shape == (1, 1, 3, 2, 2)
    assert maps["rgb"][0, 0, :, 0, 0].tolist() == [0.25, -1, -1]
    assert maps["rgb"][0, 0, :, 1, 1].tolist() == [-1, -1, 1]


def test_the_input_must_be_cut_into_whole_cells() -> None:
    with pytest.raises(ConfigError, match="input_size 30 is not a multiple of cell 8"):
        Pixels(PixelsParams(input_size=30, cell=8), device=CPU)


def test_the_canvas_is_recorded_where_it_is_not_the_usual_one() -> None:
    assert Pixels(PixelsParams(), device=CPU).spec.options == {}
    told = Pixels(PixelsParams(fit="letterbox", resample="lanczos", bars=0.0, oriented=True), device=CPU)
    assert told.spec.options == {"resample": "lanczos", "bars": 0.0, "oriented": True}
    (canvas,) = told.canvases
    assert canvas == Canvas((128, 128), "letterbox", "lanczos", 0.0, oriented=True)

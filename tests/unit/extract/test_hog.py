"""Histograms of oriented gradients, on pictures whose gradients are known."""

import math

import pytest
import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.records import Canvas
from matchkit.extract.backbones.hog import HOG, HOGParams

CPU = torch.device("cpu")


def histograms(images: Float[torch.Tensor, "b 3 h w"], *, block: int = 1) -> torch.Tensor:
    """(o * block * block, gh, gw) of the first image, 8-pixel cells, six orientations of 30 degrees each."""
    params = HOGParams(input_size=images.shape[-1], orientations=6, block=block, dtype="fp32")
    return HOG(params, device=CPU)(images, ["a"])["hog"][0, 0]


def ramp(degrees: float, *, side: int = 32) -> torch.Tensor:
    """Grey that rises evenly in one direction, counted from right to down."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angle = math.radians(degrees)
    return (0.5 + (x * math.cos(angle) + y * math.sin(angle)) / (4 * side)).expand(1, 3, -1, -1)


@pytest.mark.parametrize(
    ("degrees", "shares"),
    [
        (15.0, {0: 1.0}),  # the middle of the first bin
        (75.0, {2: 1.0}),
        (255.0, {2: 1.0}),  # an edge from dark to light and one from light to dark are the same
        (30.0, {0: 0.5, 1: 0.5}),  # between two
        (0.0, {5: 0.5, 0: 0.5}),  # and around the end
    ],
)
def test_a_gradient_goes_to_the_bins_nearest_to_it(degrees: float, shares: dict[int, float]) -> None:
    expected = torch.zeros(6)
    for number, share in shares.items():
        expected[number] = share
    inner = histograms(ramp(degrees))[:, 1, 1]
    torch.testing.assert_close(inner, expected / expected.norm(), rtol=0, atol=1e-4)


def test_the_steepest_colour_channel_decides() -> None:
    image = torch.cat([ramp(15.0)[:, :1], 3 * ramp(105.0)[:, 1:2], torch.zeros(1, 1, 32, 32)], dim=1)
    assert histograms(image)[:, 1, 1].argmax() == 3


def test_contrast_and_brightness_change_nothing() -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(histograms(0.3 * image + 0.6, block=3), histograms(image, block=3), rtol=0, atol=1e-5)


def test_a_block_holds_the_cells_around_it_at_length_one() -> None:
    image = torch.full((1, 3, 40, 40), 0.5)
    image[..., 18:22, 18:22] = 1.0  # within the middle cell, and within reach of those beside it
    one, three = histograms(image), histograms(image, block=3).unflatten(0, (6, 3, 3))
    assert one[:, 0].abs().max() == 0  # nothing is there: no direction is made up
    assert one[:, 2, 2].norm() == pytest.approx(1)
    lengths = three.flatten(0, 2).norm(dim=0)
    torch.testing.assert_close(lengths[1:4, 1:4], torch.ones(3, 3))
    assert three[:, 1, 1, 2, 2].norm() > 0.5  # the cell itself stands in the middle
    assert three[:, 2, 2, 1, 1].norm() > 0.5  # and below right in the block of the cell above left of it


def test_no_bin_has_more_than_its_share_before_the_second_normalisation() -> None:
    """At 20 degrees the shares are 5/6 and 1/6; at length one 0.981 and 0.196, of which the first is cut to 0.2."""
    strong, weak = histograms(ramp(20.0))[:, 1, 1][:2].tolist()
    assert strong / weak == pytest.approx(0.2 / (1 / 26**0.5), abs=1e-3)
    assert math.hypot(strong, weak) == pytest.approx(1)


def test_what_cannot_be_cut_into_cells_and_blocks_is_refused() -> None:
    for wrong in ({"cell": 7}, {"input_size": 30}, {"cell": 0}):
        with pytest.raises(ConfigError, match="hog: cell must be even and input_size a multiple of it"):
            HOGParams(**wrong)
    for wrong in ({"block": 2}, {"block": 0}, {"orientations": 1}):
        with pytest.raises(ConfigError, match="hog: at least 2 orientations and an odd block"):
            HOGParams(**wrong)


def test_the_canvas_is_recorded_where_it_is_not_the_usual_one() -> None:
    plain = {"cell": 8, "orientations": 9, "block": 3}
    assert HOG(HOGParams(), device=CPU).spec.options == plain
    told = HOG(HOGParams(fit="letterbox", resample="lanczos", bars=0.0, oriented=True), device=CPU)
    assert told.spec.options == {**plain, "resample": "lanczos", "bars": 0.0, "oriented": True}
    assert told.canvases == (Canvas((128, 128), "letterbox", "lanczos", 0.0, oriented=True),)

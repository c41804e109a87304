"""Soft-argmaxes and the four-cell mean against the published numbers."""

import numpy as np
import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.similarity import kernelled, soft_argmax, windowed
from matchkit.evaluate import MATCHERS
from matchkit.evaluate.on_cells import WindowSoftArgmax, WindowSoftArgmaxParams

QUERIES = np.asarray([(1.727749, 2.303665), (5.787958, 4.448953), (8.638743, 1.151832)], np.float32)


def field(*bumps: tuple[float, float, float]) -> torch.Tensor:
    """Geoaware §4.2: the greatest of bumps (height, x, y) on 60 x 60 cells."""
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")
    return torch.stack([a * torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 32) for a, cx, cy in bumps]).amax(0)[None]


ONE, EDGE = field((0.9, 20.3, 33.7)), field((0.9, 1.2, 58.6))
TWO = field((0.9, 15.4, 20.6), (0.88, 44, 20))


@pytest.mark.parametrize(
    ("scores", "plain", "window", "kernel"),
    [
        (ONE, (20.2958, 33.7042), (20.2958, 33.7042), (20.1502, 33.8498)),
        (EDGE, (1.1985, 58.5326), (1.1985, 58.5326), (1.0974, 58.7569)),
        (TWO, (23.2616, 20.4369), (15.3974, 20.6026), (15.2080, 20.7920)),
    ],
    ids=["one", "at the edge", "two"],
)
def test_golden_fields(
    scores: torch.Tensor, plain: tuple[float, ...], window: tuple[float, ...], kernel: tuple[float, ...]
) -> None:
    assert soft_argmax(scores, 0.02)[0].tolist() == pytest.approx(plain, abs=2e-4)
    for reach in (5, 7):
        assert soft_argmax(windowed(scores, reach, 0.0), 0.02)[0].tolist() == pytest.approx(window, abs=2e-4)
    assert soft_argmax(kernelled(scores, 5.0), 0.02)[0].tolist() == pytest.approx(kernel, abs=2e-4)


def test_a_low_peak_leaks_to_the_centre_unless_nothing_is_outside() -> None:
    low = field((0.15, 10, 10))
    assert (soft_argmax(windowed(low, 7, 0.0), 0.02)[0] > 11).all()  # the grid's centre is at 29.5
    assert soft_argmax(windowed(low, 7, float("-inf")), 0.02)[0].tolist() == pytest.approx([10, 10], abs=1e-3)


def wave(phase: float) -> torch.Tensor:
    """SD4Match §3.3: 8 channels on 12 x 12 cells."""
    c, y, x = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in (8, 12, 12)), indexing="ij")
    main = torch.sin(0.11 * (c + 1) * (x + 1) + 0.07 * (c + 2) * y + phase)
    return (main + 0.5 * torch.cos(0.05 * c * y - 0.03 * c * x + phase)).float()


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("nearest", {"upsample": 1}, [(3, 0), (7, 2), (9, 0)]),
        ("bilinear", {}, [(2.506757, 0.524657), (6.861507, 2.280207), (8.638743, 0.151832)]),
        ("soft-argmax", {}, [(1.567023, 1.520376), (6.438665, 2.657613), (6.841859, 2.697010)]),
        ("kernel-soft-argmax", {}, [(2.460316, 0.579843), (6.921863, 1.998319), (8.566909, 0.443962)]),
    ],
)
def test_golden_matches(name: str, settings: dict[str, int], expected: list[tuple[float, float]]) -> None:
    found = MATCHERS.build(name, settings, where=name).match(wave(0.0), wave(0.4), QUERIES)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_cell_of_a_keypoint_is_asked_for() -> None:
    source, target = wave(0.0), wave(0.4)
    matcher = WindowSoftArgmax(WindowSoftArgmaxParams())
    cells = np.floor(QUERIES + 0.5)
    np.testing.assert_array_equal(matcher.match(source, target, QUERIES), matcher.match(source, target, cells))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("soft-argmax", {"temperature": 0.0}, "must be above 0, not 0.0"),
        ("window-soft-argmax", {"window": -1}, "0 cells or more, not -1"),
        ("window-soft-argmax", {"temperature": -1.0}, "must be above 0"),
        ("kernel-soft-argmax", {"sigma": 0.0}, "sigma of a Gaussian must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MATCHERS.build(name, settings, where=name)

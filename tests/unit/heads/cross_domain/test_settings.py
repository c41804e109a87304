"""What a cross-domain head is told."""

from typing import Any

import pytest

from matchkit.core.errors import ConfigError
from matchkit.heads.cross_domain.settings import CrossDomainParams


def test_the_temperature_falls_geometrically_and_stays() -> None:
    params = CrossDomainParams(temperature=0.01, warm=0.1, annealed=0.6)
    at = [params.temperature_at(progress) for progress in (0.0, 0.3, 0.6, 0.8, 1.0)]
    assert at == pytest.approx([0.1, 0.1**1.5, 0.01, 0.01, 0.01])
    assert CrossDomainParams(temperature=0.02, annealed=0.0).temperature_at(0.0) == 0.02


@pytest.mark.parametrize(("side", "times"), [(32, 0), (64, 1), (256, 3)])
def test_halvings(side: int, times: int) -> None:
    assert CrossDomainParams(grid=32).halvings(side) == times


@pytest.mark.parametrize("side", [1, 16, 48, 96, 100])
def test_a_side_that_no_halving_brings_to_the_grid(side: int) -> None:
    with pytest.raises(ConfigError, match=f"a picture of {side} pixels does not come to a grid of 32 cells"):
        CrossDomainParams(grid=32).halvings(side)


def test_it_learns_where_any_term_counts() -> None:
    off: dict[str, Any] = dict.fromkeys(("domain", "semantic", "same", "cycle", "parts", "contrast"), 0.0)
    assert not CrossDomainParams(**off).learns
    for name in off:
        assert CrossDomainParams(**off | {name: 0.5}).learns


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cycle": -1.0}, "weights of losses must not be negative"),
        ({"sampled": 0}, "sampled must be at least 1"),
        ({"grid": 0}, "grid, width, out and sampled must be at least 1"),
        ({"temperature": 0.0}, "temperatures must be positive"),
        ({"warm": -0.1}, "temperatures must be positive"),
        ({"annealed": 1.5}, r"annealed must lie in 0\.\.1"),
        ({"channels": 3, "neutral": (1.0,)}, "neutral has 1 values for 3 channels"),
        ({"out": 12}, "out must be a multiple of 8, not 12"),
        ({"adapters": "paper", "width": 6}, "multiple of 4, not 6"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CrossDomainParams(**changes)

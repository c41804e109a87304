"""Intervals hold the truth in 95 of 100 simulated datasets, and tests find in 5 what is not there."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "coverage.py"
KINDS = ("high scores", "a gain")
RESAMPLES = 150


@pytest.fixture(scope="module")
def simulation() -> Iterator[ModuleType]:
    """The simulation that the table in docs/statistics.md is by."""
    spec = importlib.util.spec_from_file_location("coverage_benchmark", FILE)
    assert spec
    assert spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.slow
def test_intervals_hold_the_truth_where_those_that_forget_shared_images_do_not(simulation: ModuleType) -> None:
    told = simulation.design(simulation.KINDS["8 images"])
    for held in simulation.coverage(told, datasets=500, resamples=RESAMPLES, compared=True).values():
        assert 93 <= held.pop("matchkit") <= 97
        held.pop("images drawn, not scaled")
        assert max(held.values()) < 93


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_the_truth(simulation: ModuleType, kind: str) -> None:
    told = simulation.design(simulation.KINDS[kind])
    for held in simulation.coverage(told, datasets=500, resamples=RESAMPLES, compared=False).values():
        assert 93 <= held["matchkit"] <= 97


@pytest.mark.slow
def test_equal_methods_are_told_apart_in_five_of_a_hundred_datasets(simulation: ModuleType) -> None:
    told = simulation.design(simulation.KINDS["no gain, 8 images"])
    rates = simulation.found_at(told, datasets=200)
    assert rates["matchkit"] <= 8
    assert rates["pairs swapped"] > 15

"""Fitting: seeded, resumable to the same bytes, best and last kept."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors import safe_open

from matchkit.core.interfaces import BatchPair, PairBatch, ReadsMaps
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.aggregator import Aggregator, AggregatorParams
from matchkit.heads.fit import Fit, FitFiles, FitParams, choose_layer
from matchkit.heads.identity import RawLayer, RawLayerParams

SPEC = FeatureSpec("pixels", "none", (LayerSpec("a", 6, (4, 4)),), (0, 90), (32, 32), "stretch", "fp32")
PARAMS = FitParams(steps=6, validate_every=2)


def batches(start: int) -> Iterator[PairBatch]:
    for number in itertools.count(start):
        generator = torch.Generator().manual_seed(number)
        maps = {"a": torch.randn(2, 2, 6, 4, 4, generator=generator)}
        cells = torch.randint(16, (3,), generator=generator)
        points = torch.stack([cells % 4, cells // 4], 1).float()
        pair = BatchPair(0, 1, points, points.roll(1, 0), cells, cells.roll(1), 4.0)
        yield PairBatch(maps, (pair,), ("a", "b"), (4, 4), number)


def fit(folder: Path, *, params: FitParams = PARAMS) -> Fit[PairBatch]:
    head = Aggregator(AggregatorParams(projection=128), spec=SPEC)
    return Fit(head, "aggregator", spec=SPEC, params=params, files=FitFiles(folder / "h.safetensors"), about={})


class Validation:
    """Scores that are told beforehand; may be told to break off, as a kill would."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = iter(scores)

    def __call__(self, head: ReadsMaps) -> float:
        score = next(self.scores)
        if score < 0:
            raise KeyboardInterrupt
        return score


def test_the_best_and_the_last_are_kept(tmp_path: Path) -> None:
    best = fit(tmp_path).run(batches, Validation([10.0, 30.0, 20.0]))
    assert best == 30.0
    kept = {}
    for name in ("h.safetensors", "h.last.safetensors"):
        with safe_open(tmp_path / name, framework="pt") as file:
            kept[name] = json.loads(file.metadata()["matchkit"])
    assert (kept["h.safetensors"]["fit"]["step"], kept["h.last.safetensors"]["fit"]["step"]) == (4, 6)
    assert FeatureSpec.from_json(kept["h.safetensors"]["spec"]) == SPEC
    history = [json.loads(line) for line in (tmp_path / "h.history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [2, 4, 6]
    assert not (tmp_path / "h.checkpoint.pt").exists()


@pytest.mark.parametrize(
    "params", [PARAMS, replace(PARAMS, schedule="one-cycle"), replace(PARAMS, schedule="linear-decay")]
)
def test_an_interrupted_fit_resumes_to_the_same_bytes(tmp_path: Path, params: FitParams) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(whole, params=params).run(batches, Validation([10.0, 30.0, 20.0]))
    with pytest.raises(KeyboardInterrupt):
        fit(broken, params=params).run(batches, Validation([10.0, -1.0]))
    assert (broken / "h.checkpoint.pt").exists()
    fit(broken, params=params).run(batches, Validation([30.0, 20.0]))
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in broken.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (broken / name).read_bytes(), name


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """The rate and the first beta with which each step is made."""
    seen: list[tuple[float, float]] = []

    def step(self: Fit[PairBatch], batch: PairBatch) -> float:
        seen.append((self._optimiser.param_groups[0]["lr"], self._optimiser.param_groups[0]["betas"][0]))
        return plain(self, batch)

    plain = Fit._step
    monkeypatch.setattr(Fit, "_step", step)
    return seen


def test_one_cycle_takes_every_step_and_ends_at_its_lowest_rate(
    tmp_path: Path, rates: list[tuple[float, float]]
) -> None:
    """The released code's cycle is two steps short of its pairs and fails. Source: GeoAware-SC §3.3."""
    params = FitParams(steps=20, validate_every=20, lr=1.25e-3, schedule="one-cycle")
    fit(tmp_path, params=params).run(batches, Validation([1.0]))
    assert len(rates) == 20
    assert rates[0] == pytest.approx((5e-5, 0.95))
    assert rates[5] == pytest.approx((1.25e-3, 0.85))
    assert rates[-1] == pytest.approx((5e-9, 0.95))


def test_a_linear_decay_begins_at_half_of_the_steps(tmp_path: Path, rates: list[tuple[float, float]]) -> None:
    params = FitParams(steps=8, validate_every=8, lr=1e-2, schedule="linear-decay")
    fit(tmp_path, params=params).run(batches, Validation([1.0]))
    assert [rate for rate, _ in rates] == pytest.approx([1e-2] * 5 + [0.75e-2, 0.5e-2, 0.25e-2])


@pytest.mark.parametrize("schedule", ["one-cycle", "linear-decay"])
def test_a_resumed_fit_goes_on_at_the_rate_where_it_stopped(
    tmp_path: Path, rates: list[tuple[float, float]], schedule: Literal["one-cycle", "linear-decay"]
) -> None:
    """The published code begins again with the base rate. Source: CoCosNet §7.2 no. 11."""
    params = replace(PARAMS, schedule=schedule)
    fit(tmp_path / "whole", params=params).run(batches, Validation([10.0, 30.0, 20.0]))
    whole = rates[:]
    rates.clear()
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "broken", params=params).run(batches, Validation([10.0, 30.0, -1.0]))
    assert rates == whole
    rates.clear()
    fit(tmp_path / "broken", params=params).run(batches, Validation([20.0]))
    assert rates == whole[4:]
    assert rates[0][0] < params.lr


def test_a_checkpoint_of_another_fit_is_not_taken_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path).run(batches, Validation([10.0, -1.0]))
    other = FitParams(steps=6, validate_every=2, lr=1e-2)
    fit(tmp_path, params=other).run(batches, Validation([1.0, 2.0, 3.0]))  # three validations: it began anew
    history = (tmp_path / "h.history.jsonl").read_text().splitlines()
    assert len(history) == 3


def test_a_complete_fit_is_known(tmp_path: Path) -> None:
    assert fit(tmp_path).completed() is None
    fit(tmp_path).run(batches, Validation([10.0, 30.0, 20.0]))
    assert fit(tmp_path).completed() == 30.0
    assert fit(tmp_path, params=FitParams(steps=8, validate_every=2)).completed() is None


def test_choose_layer_keeps_the_best_and_the_first_in_a_tie() -> None:
    layers = (LayerSpec("a", 3, (4, 4)), LayerSpec("b", 3, (8, 8)))
    spec = FeatureSpec("pixels", "none", layers, (0, 90), (32, 32), "stretch", "fp32")
    scores = {("a", 0): 5.0, ("a", 90): 7.0, ("b", 0): 7.0, ("b", 90): 1.0}
    head, best = choose_layer(
        RawLayer(RawLayerParams(), spec=spec), lambda head: scores[head.layers[0], head.timesteps[0]]
    )
    assert (head.config(), best) == ({"layer": "a", "timestep": 90}, 7.0)

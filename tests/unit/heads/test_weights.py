"""Heads on disk: safetensors with the spec inside, and nothing else."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from matchkit.core.errors import WeightsError
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.aggregator import Aggregator, AggregatorParams
from matchkit.heads.identity import RawLayer, RawLayerParams
from matchkit.heads.weights import HeadWeights, keep

SPEC = FeatureSpec("pixels", "none", (LayerSpec("a", 6, (4, 4)),), (0, 90), (32, 32), "stretch", "fp32")


def test_round_trip(tmp_path: Path) -> None:
    head = Aggregator(AggregatorParams(projection=128, seed=3), spec=SPEC)
    keep(head, "aggregator", spec=SPEC, fit={"steps": 5}).save(tmp_path / "h.safetensors")
    loaded = HeadWeights.load(tmp_path / "h.safetensors")
    assert (loaded.head, loaded.spec, loaded.fit) == ("aggregator", SPEC, {"steps": 5})
    maps = {"a": torch.randn(1, 2, 6, 4, 4)}
    torch.testing.assert_close(loaded.build(device=torch.device("cpu")).describe(maps, []), head.describe(maps))


def test_a_head_without_parameters(tmp_path: Path) -> None:
    head = RawLayer(RawLayerParams("a", 90), spec=SPEC)
    keep(head, "raw-layer", spec=SPEC, fit={}).save(tmp_path / "h.safetensors")
    built = HeadWeights.load(tmp_path / "h.safetensors").build(device=torch.device("cpu"))
    assert built.config() == {"layer": "a", "timestep": 90}


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

    (tmp_path / "h.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match=r"h\.safetensors is not a head of matchkit"):
        HeadWeights.load(tmp_path / "h.safetensors")
    assert not (tmp_path / "exploded").exists()


def test_foreign_safetensors_and_missing_files_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="not a head"):
        HeadWeights.load(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="Run: matchkit fit-head"):
        HeadWeights.load(tmp_path / "absent.safetensors")


def test_parameters_that_do_not_fit_are_refused() -> None:
    head = Aggregator(AggregatorParams(projection=128), spec=SPEC)
    kept = keep(head, "aggregator", spec=SPEC, fit={})
    wrong = HeadWeights("aggregator", {**kept.config, "projection": 256}, SPEC, kept.tensors, {})
    with pytest.raises(WeightsError, match="do not fit head 'aggregator'"):
        wrong.build(device=torch.device("cpu"))

"""The gate's judgement on hand-made rows, its fusion, and a run of it over a small tree."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from matchkit.cache.store import FeatureStore
from matchkit.core.records import Pair
from matchkit.evaluate.intervals import Interval
from matchkit.evaluate.pck import hits
from matchkit.evaluate.predictions import Predictions
from matchkit.extract.datasets import open_dataset
from matchkit.heads.identity import RawLayer, RawLayerParams
from matchkit.pipelines.extract import extract
from matchkit.pipelines.settings import features_path
from matchkit.pipelines.train_tiny import gate
from matchkit.pipelines.train_tiny.fusion import WEIGHTS, Fusion
from matchkit.pipelines.train_tiny.verdicts import Row, Verdict, apart, not_worse, table, verdict_table, well_above


def row(name: str, value: float, low: float, high: float) -> Row:
    return Row(name, "", [], Interval(value, low, high))


def pairs_of(count: int) -> list[Pair]:
    """Pairs of one keypoint, no two of which share an image."""
    point = np.zeros((1, 2), np.float32)
    return [Pair(str(n), f"s{n}", f"t{n}", "", point, point, ("0",)) for n in range(count)]


def test_intervals_that_touch_are_not_apart() -> None:
    worse = row("b", 10.0, 8.0, 12.0)
    assert apart(row("a", 14.0, 12.1, 16.0), worse) == Verdict(
        "a above b", holds=True, found="from 12.1 against up to 12.0"
    )
    assert not apart(row("a", 14.0, 12.0, 16.0), worse).holds
    assert not apart(row("a", 6.0, 5.0, 7.0), worse).holds


def test_a_fusion_is_held_against_the_better_of_its_parts() -> None:
    pairs = pairs_of(10)

    def of(name: str, right: int) -> Row:
        return Row.of(name, "", [np.array([n < right]) for n in range(10)], pairs)

    parts = [of("worse", 3), of("better", 6)]
    assert not_worse(of("fused", 6), parts, pairs) == Verdict(
        "fused not below better", holds=True, found="0.0 (0.0 to 0.0) points"
    )
    assert not_worse(of("fused", 7), parts, pairs).found.startswith("10.0 (")
    assert not not_worse(of("fused", 5), parts, pairs).holds


def test_the_worst_seed_must_be_far_above_the_best_control() -> None:
    trained = [row("head, seed 0", 40.0, 0.0, 0.0), row("head, seed 1", 38.0, 0.0, 0.0)]
    control = [row("control, seed 0", 20.0, 0.0, 0.0), row("control, seed 1", 28.0, 0.0, 0.0)]
    found = well_above(trained, control)
    assert found == Verdict("head, seed 1 at least 10 points above control, seed 1", holds=True, found="+10.0 points")
    assert not well_above(trained, [row("control", 28.1, 0.0, 0.0)]).holds


def test_the_tables_are_markdown() -> None:
    rows = [Row.of("a", "up3.0 at t 100", [np.array([True]), np.array([False])], pairs_of(2))]
    text = table(rows, pairs_of(2), alpha=0.1)
    assert text.startswith("PCK@0.1 in percent, box, a mean over keypoints: 2 pairs, 4 images, 2 keypoints.")
    assert text.endswith("| a | up3.0 at t 100 | 50.0 (0.0 to 100.0) |")
    told = verdict_table(
        [Verdict("x", holds=True, found="1"), Verdict("y", holds=False, found="2"), Verdict("z", holds=None, found="")]
    )
    assert told.splitlines()[2:] == ["| x | yes | 1 |", "| y | **no** | 2 |", "| z | not measured |  |"]


@pytest.fixture
def two_stores(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[tuple[RawLayer, FeatureStore]]]:
    """The tree, and a head with its store for histograms and for colours."""
    monkeypatch.chdir(spair_tree.parent)
    parts = []
    for name in ("hog", "pixels"):
        extract("spair", name, root=spair_tree, settings=("input_size=32",), device="cpu")
        store = FeatureStore.open(features_path("spair", name))
        parts.append((RawLayer(RawLayerParams(), spec=store.spec), store))
    return spair_tree, parts


def matched(fusion: Fusion, pairs: Sequence[Pair], weight: float) -> np.ndarray:
    return np.concatenate(list(fusion.match(pairs, weight=weight).values()))


def test_all_the_weight_on_one_map_is_that_map_alone(
    two_stores: tuple[Path, list[tuple[RawLayer, FeatureStore]]],
) -> None:
    root, (first, second) = two_stores
    data = open_dataset("spair", root)
    pairs = data.pairs("val")
    fusion = Fusion((first, second), data)
    for weight, (head, store) in ((1.0, first), (0.0, second)):
        alone = Fusion(((head, store), (head, store)), data)
        np.testing.assert_array_equal(matched(fusion, pairs, weight), matched(alone, pairs, 0.5))
    assert (matched(fusion, pairs, 1.0) != matched(fusion, pairs, 0.0)).any()


def test_the_weight_is_the_best_one_on_validation(
    two_stores: tuple[Path, list[tuple[RawLayer, FeatureStore]]],
) -> None:
    root, (first, second) = two_stores
    data = open_dataset("spair", root)
    fusion = Fusion((first, second), data)
    validation, test = data.pairs("trn"), data.pairs("test")

    def correct(weight: float, alpha: float) -> int:
        found = Predictions(fusion.match(validation, weight=weight), {})
        told = hits(validation, data.images, found, alpha=alpha, reference="box")
        return sum(int(verdicts.sum()) for verdicts in told)

    for alpha in (0.1, 0.3):
        chosen = fusion.choose(validation, test, alpha=alpha)
        assert correct(chosen.weight, alpha) == max(correct(weight, alpha) for weight in WEIGHTS)
        expected = fusion.match(test, weight=chosen.weight)
        assert chosen.predictions.points.keys() == expected.keys()
        assert all((chosen.predictions.points[name] == points).all() for name, points in expected.items())


def test_the_whole_gate_runs_and_says_what_does_not_hold(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spair_tree.parent)
    monkeypatch.setattr(gate, "DATASET", "spair")
    small = ("backbone=pixels", "input_size=32")
    monkeypatch.setattr(gate, "FEATURES", {name: small for name in gate.FEATURES})
    learnt = dataclasses.replace(gate.TRAINED[0], settings=("projection=128", "steps=1", "validate_every=1"))
    monkeypatch.setattr(gate, "TRAINED", (learnt,))
    told = ["--root", str(spair_tree), "--out", "out/GATE.md"]
    first, again = (CliRunner().invoke(gate.main, told) for _ in range(2))
    assert first.exit_code == again.exit_code == 1
    assert "the embedded default does not pass; see out/GATE.md" in first.output
    text = Path("out/GATE.md").read_text()
    assert text in first.output
    assert "1 pairs, 2 images, 3 keypoints" in text
    for start in ("same relative position", "diffusion, best map", "aggregator on diffusion-random, seed 1"):
        assert sum(line.startswith(f"| {start} |") for line in text.splitlines()) == 1
    assert "| diffusion, best map above hog, best map | **no** |" in text
    assert "cores | not measured |" in text
    assert "| all weights within 12 MB | yes |" in text
    monkeypatch.setattr(gate, "_TIMED", small)
    monkeypatch.setattr(gate, "TIMED_IMAGES", 2)
    plain = CliRunner().invoke(gate.main, [*told, "--untrained", "--timed"])
    assert "aggregator" not in plain.stdout
    assert "| 2 images x 11 timesteps x 12 layers within 120 s on" in plain.stdout
    assert "cores | yes |" in plain.stdout

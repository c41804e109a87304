"""Predictions at rest."""

from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import MatchkitError
from matchkit.evaluate.evidence import Evidence, Presence, Presences
from matchkit.evaluate.predictions import Predictions

POINTS = {
    "000001-a-b:cat": np.asarray([[1.5, 2], [3, 4]], np.float32),
    "000002-b-c:cat": np.zeros((0, 2), np.float32),
    "000003-c-a:cat": np.asarray([[5, 6]], np.float32),
}


def test_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    predictions = Predictions(POINTS, {"split": "test", "features": "abc"})
    predictions.save(tmp_path / "one.npz")
    predictions.save(tmp_path / "two.npz")
    loaded = Predictions.load(tmp_path / "one.npz")
    assert list(loaded.points) == list(POINTS)
    for name, points in POINTS.items():
        np.testing.assert_array_equal(loaded.points[name], points)
    assert loaded.made_by == predictions.made_by
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def evidence(count: int) -> Evidence:
    rising = np.arange(count, dtype=np.float32)
    return Evidence(rising, rising + 0.5, np.full(count, np.nan, np.float32), 2 * rising, rising > 0)


def full() -> Predictions:
    """One of three, two and no keypoints in the source, with evidence of those in both images."""
    of_pair = {
        name: Presence(
            np.full((count, 2), count, np.float32), np.full((count, 2), -count, np.float32), 0.25, count + 1.0
        )
        for name, count in zip(POINTS, (3, 0, 2), strict=True)
    }
    told = {name: evidence(len(points)) for name, points in POINTS.items()}
    return Predictions(POINTS, {"split": "test"}, told, Presences((0.05, 0.1), "image", of_pair))


def test_evidence_and_presences_come_back_pair_by_pair(tmp_path: Path) -> None:
    full().save(tmp_path / "p.npz")
    loaded = Predictions.load(tmp_path / "p.npz")
    assert list(loaded.evidence) == list(POINTS)
    for name, points in POINTS.items():
        for field in ("similarity", "margin", "probability", "cycle", "mutual"):
            expected = getattr(full().evidence[name], field)
            np.testing.assert_array_equal(getattr(loaded.evidence[name], field), expected)
            assert len(expected) == len(points)
    assert (loaded.presences.alphas, loaded.presences.reference) == ((0.05, 0.1), "image")
    for name, expected in full().presences.of_pair.items():
        held = loaded.presences.of_pair[name]
        np.testing.assert_array_equal(held.near, expected.near)
        np.testing.assert_array_equal(held.far, expected.far)
        assert (held.lowest, held.highest) == (expected.lowest, expected.highest)


def test_a_file_from_before_there_was_evidence_is_read(tmp_path: Path) -> None:
    Predictions(POINTS, {"split": "test"}).save(tmp_path / "old.npz")
    with np.load(tmp_path / "old.npz") as file:
        assert sorted(file.files) == ["made_by", "offsets", "pairs", "points"]
    loaded = Predictions.load(tmp_path / "old.npz")
    assert loaded.evidence == {}
    assert loaded.presences == Presences()


def test_a_file_with_half_of_the_evidence_is_broken(tmp_path: Path) -> None:
    full().save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "evidence_cycle"}
    np.savez(tmp_path / "half.npz", **arrays)
    with pytest.raises(MatchkitError, match=r"half\.npz does not hold predictions.*Run: matchkit match"):
        Predictions.load(tmp_path / "half.npz")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut short"])
def test_a_broken_file_says_what_to_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(MatchkitError, match=r"p\.npz does not hold predictions"):
        Predictions.load(tmp_path / "p.npz")


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(MatchkitError, match="Run: matchkit match"):
        Predictions.load(tmp_path / "p.npz")

"""Predictions at rest."""

from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import MatchkitError
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


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut short"])
def test_a_broken_file_says_what_to_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(MatchkitError, match=r"p\.npz does not hold predictions"):
        Predictions.load(tmp_path / "p.npz")


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(MatchkitError, match="Run: matchkit match"):
        Predictions.load(tmp_path / "p.npz")

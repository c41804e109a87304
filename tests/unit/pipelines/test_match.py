"""Matching with a head that needs both images of a pair."""

from pathlib import Path

import numpy as np
import pytest

from matchkit.evaluate.predictions import Predictions
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines.extract import extract
from matchkit.pipelines.fit_head import fit_head
from matchkit.pipelines.match import match


def test_a_head_of_pairs_is_fitted_and_matched(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spair_tree.parent)
    extract("spair", "pixels", root=spair_tree, settings=("input_size=32",), device="cpu")
    fitted = fit_head("spair", "co-pca", root=spair_tree, settings=("features=pixels", "rank=3"), device="cpu")
    assert 0 <= fitted.validation <= 100
    written = match("spair", "co-pca", root=spair_tree, settings=("split=trn",), device="cpu")
    points = Predictions.load(written.predictions).points
    pairs = open_dataset("spair", spair_tree).pairs("trn")
    assert points.keys() == {pair.id for pair in pairs}
    (itself, *_) = [pair for pair in pairs if pair.source == pair.target]
    np.testing.assert_allclose(points[itself.id], itself.source_points, atol=5)  # of 36 pixels, by colour alone

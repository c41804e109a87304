"""Scores of pictures, taken in one at a time."""

import numpy as np
import pytest

from matchkit.evaluate.translation.appearance import by_depth
from matchkit.evaluate.translation.frechet import GaussianStatistics, VectorSettings, frechet_distance
from matchkit.evaluate.translation.tally import PictureTally, VectorNetwork

GRID = (2, 2)


def looked(picture: np.ndarray) -> dict[str, np.ndarray]:
    whole = picture.transpose(2, 0, 1)
    return {"fine": whole, "finer": whole, "coarse": whole[:, ::2, ::2]}


def colours(picture: np.ndarray) -> np.ndarray:
    return np.asarray(picture[:, :, 0].mean(0))


def test_fid_is_measured_where_its_network_is_given() -> None:
    draw = np.random.default_rng(0)
    shown = draw.random((2, 6, 16, 16, 3))
    settings = by_depth("eyes", ("fine", "finer", "coarse"))
    plain = PictureTally(looked, settings)
    tally = PictureTally(looked, settings, inception=VectorNetwork("mean colours, resize none", colours), stored="png")
    assert tally.scores() == {}
    figure = np.ones((16, 16), np.int64)
    places = np.zeros((*GRID, 2), np.float32)
    for made, wanted in zip(*shown, strict=True):
        for one in (plain, tally):
            one.add(made, wanted, wanted, figure=figure, places=places, known=np.zeros(GRID, bool), grid=GRID)
    assert "fid" not in plain.scores()
    told = VectorSettings("mean colours, resize none", "png")
    sets = []
    for pictures in shown:
        gaussian = GaussianStatistics(16, told)
        gaussian.update(np.stack([colours(picture) for picture in pictures]))
        sets.append(gaussian)
    assert tally.scores()["fid"] == pytest.approx(frechet_distance(sets[0], sets[1]).value)
    assert tally.settings()["fid"]["network"] == "mean colours, resize none"
    assert tally.settings()["fid"]["vectors"] == [6, 6]
    assert "covariance is singular" in tally.settings()["fid"]["warning"]
    assert tally.scores()["fd_dino"] == pytest.approx(plain.scores()["fd_dino"])

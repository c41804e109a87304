"""Which pairs the page shows, how it draws them, and what reducing their descriptors costs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from matchkit.core.errors import DatasetError
from matchkit.core.records import ImageRecord, Pair
from matchkit.core.similarity import cells, unit
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.page.choose import Judged, draw, judged
from matchkit.pipelines.page.explore import upsample
from matchkit.pipelines.page.mixing import mixing
from matchkit.pipelines.page.reduce import reduce


def pair(number: int, *, box: bool = True) -> Pair:
    points = np.asarray([[10, 10], [20, 10]], np.float32)
    corners = (0.0, 0.0, 40.0, 30.0) if box else None
    return Pair(f"{number:03}", "a", "b", "cat", points, points, ("0", "1"), corners, corners)


def row(number: int) -> Judged:
    found = pair(number)
    return Judged(found, found.target_points, 40.0, np.full(2, number / 100), np.ones(2, bool))


def test_pairs_are_judged_as_the_report_did() -> None:
    images = {name: ImageRecord(name, Path(name), (100, 80)) for name in "ab"}
    found = Predictions({"000": np.asarray([[14, 10], [20, 15]], np.float32)}, {})
    protocol = EvalProtocol(comparison="<")
    (one,) = judged([pair(0)], images, found, protocol, reference="box", alpha=0.1)
    assert one.length == 40
    np.testing.assert_allclose(one.errors, [0.1, 0.125])
    assert one.right.tolist() == [False, False]
    (one,) = judged([pair(0)], images, found, EvalProtocol(), reference="box", alpha=0.1)
    assert one.right.tolist() == [True, False]
    (one,) = judged([pair(0)], images, found, EvalProtocol(), reference="keypoints", alpha=0.5)
    assert one.length == 10
    assert one.error == pytest.approx(0.45)
    with pytest.raises(DatasetError, match="no target box"):
        judged([pair(0, box=False)], images, found, EvalProtocol(), reference="box", alpha=0.1)


def test_the_choice_is_drawn_from_three_bands_that_share_nothing() -> None:
    rows = [row(number) for number in range(200)]
    shares = draw(rows, 10, seed=0)
    assert [(share.band, share.of, len(share.rows)) for share in shares] == [
        ("best", 10, 3),
        ("median", 10, 4),
        ("worst", 10, 3),
    ]
    best, median, worst = ([int(one.pair.id) for one in share.rows] for share in shares)
    assert max(best) < 10
    assert {*median} <= {*range(95, 105)}
    assert min(worst) >= 190
    assert draw(rows[::-1], 10, seed=0) == shares
    assert any(draw(rows, 10, seed=seed) != shares for seed in range(1, 4))


@pytest.mark.parametrize(("there", "wanted"), [(1, 10), (2, 10), (5, 5), (7, 6), (10, 10), (12, 10), (3, 1)])
def test_no_pair_is_drawn_twice_and_few_are_all_taken(there: int, wanted: int) -> None:
    drawn = [
        one.pair.id for share in draw([row(number) for number in range(there)], wanted, seed=3) for one in share.rows
    ]
    assert len(drawn) == len({*drawn}) == min(there, wanted)


def maps(channels: int, grid: tuple[int, int], seed: int) -> torch.Tensor:
    return torch.randn(channels, *grid, generator=torch.Generator().manual_seed(seed))


def test_few_dimensions_lose_nothing_but_rounding() -> None:
    mixed = torch.linalg.qr(maps(40, (1, 8), 0)[:, 0])[0]
    source, target = ((mixed @ maps(8, (5, 6), seed).flatten(1)).unflatten(1, (5, 6)) for seed in (1, 2))
    small = reduce(source, target, rank=8)
    assert small.source.shape == (5, 6, 8)
    assert small.kept == pytest.approx(1, abs=1e-5)
    one, other = small.descriptors()
    np.testing.assert_allclose(cells(one) @ cells(other).T, unit(cells(source)) @ unit(cells(target)).T, atol=0.02)
    assert small.near >= small.same > 0.8


@pytest.mark.parametrize("channels", [20, 200])
def test_fewer_dimensions_keep_less_and_both_ways_keep_the_same(channels: int) -> None:
    source, target = maps(channels, (4, 5), 1), maps(channels, (6, 7), 2)
    rows = torch.cat([unit(cells(source)), unit(cells(target))]).double()
    squares = torch.linalg.svdvals(rows).square()
    for rank in (2, 10):
        small = reduce(source, target, rank=rank)
        assert small.kept == pytest.approx(float(squares[:rank].sum() / squares.sum()), abs=1e-5)
        assert small.target.shape == (6, 7, rank)
    assert reduce(source, target, rank=2).same < reduce(source, target, rank=20).same


def test_a_fine_grid_and_an_empty_one_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = torch.ones(20, 40, 50)
    monkeypatch.setattr("matchkit.pipelines.page.reduce.MOST_BYTES", 60_000)
    small = reduce(fine, fine)
    assert small.source.nbytes + small.target.nbytes == 60_000
    assert len(small.scales) == 15
    nothing = reduce(torch.zeros(6, 3, 3), torch.zeros(6, 3, 3))
    assert nothing.kept == 1.0
    assert not nothing.source.any()
    assert np.isfinite(nothing.scales).all()
    assert (upsample((16, 16)), upsample((260, 100)), upsample((1000, 2))) == (8, 1, 1)


def spec() -> FeatureSpec:
    layers = tuple(LayerSpec(name, 16, (4, 4)) for name in ("up0", "up1"))
    return FeatureSpec("drawn", "none", layers, (0, 100, 200), (32, 32), fit="stretch", dtype="fp32")


def test_mixing_weights_are_by_timestep_and_then_by_layer() -> None:
    shares = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 85.0])
    config = {"projection": 128}
    kept = HeadWeights("aggregator", config, spec(), {"mixing_weights": (shares / 100).log()})
    found = mixing(kept)
    assert found is not None
    assert (found.layers, found.timesteps) == (("up0", "up1"), (0, 100, 200))
    np.testing.assert_allclose(found.shares, [[1, 3, 5], [2, 4, 85]], rtol=1e-5)
    np.testing.assert_allclose(found.of_timesteps, [3, 7, 90], rtol=1e-5)
    assert [found.shade(found.shares[0][0]), found.shade(found.shares[1][2])] == [0, 1]
    assert mixing(HeadWeights("aggregator", config, spec(), {})) is None
    assert mixing(HeadWeights("aggregator", config, spec(), {"mixing_weights": shares[:4]})) is None

"""The loss of the post-processors over pairs and their variants."""

from dataclasses import replace

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import BatchPair, PairBatch
from matchkit.heads.keypoint_loss import KeypointLoss, KeypointLossParams

CELLS = torch.tensor([0, 9, 30, 63])
POINTS = torch.stack([CELLS % 8, CELLS // 8], 1) + 0.25
PLAIN = BatchPair(0, 1, POINTS, POINTS.flip(0), CELLS, CELLS.flip(0), 6.0)


def terms(*pairs: BatchPair, **params: float) -> dict[str, float]:
    descriptors = torch.randn(3, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(1)
    loss = KeypointLoss(KeypointLossParams(**{"noise": 0.0, **params}), scale=torch.tensor(10.0), draw=draw)
    batch = PairBatch({}, pairs, ("a", "b", "c"), (8, 8))
    return {name: term.item() for name, term in loss(descriptors, batch).items()}


def test_variants_count_by_their_weight_and_from_the_flow_alone() -> None:
    one, other = replace(PLAIN, source=2, weight=1.0), replace(PLAIN, target=2, weight=0.25)
    own, first, second = terms(PLAIN), terms(one), terms(other)
    found = terms(replace(PLAIN, variants=(one, other)))
    assert found["total"] == pytest.approx((own["total"] + first["dense"] + 0.25 * second["dense"]) / 2.25, rel=1e-5)
    assert found["variants"] == pytest.approx((first["dense"] + second["dense"]) / 2, rel=1e-5)
    assert (found["sparse"], found["dense"]) == (own["sparse"], own["dense"])


def test_without_the_flow_variants_are_learnt_from_the_contrastive_loss() -> None:
    variant = replace(PLAIN, source=2, weight=1.0)
    own, other = terms(PLAIN, dense=0.0), terms(variant, dense=0.0)
    found = terms(replace(PLAIN, variants=(variant,)), dense=0.0)
    assert found["total"] == pytest.approx((own["sparse"] + other["sparse"]) / 2, rel=1e-5)


def test_every_pair_counts_the_same_whatever_its_variants() -> None:
    lone, twice = replace(PLAIN, source=2), replace(PLAIN, variants=(replace(PLAIN, weight=3.0),))
    expected = (terms(lone)["total"] + terms(twice)["total"]) / 2
    assert terms(lone, twice)["total"] == pytest.approx(expected, rel=1e-5)


def test_self_contrast_is_added_by_its_weight() -> None:
    without, added = terms(PLAIN), terms(PLAIN, self_contrast=0.5)
    assert "self_contrast" not in without
    assert added["total"] == pytest.approx(without["total"] + 0.5 * added["self_contrast"], rel=1e-5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"noise": -1.0}, "must not be negative"),
        ({"sparse": 0.0, "dense": 0.0}, "nothing to learn from"),
    ],
)
def test_what_cannot_be_is_refused(params: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KeypointLossParams(**params)

"""The loss of prompts: what it weighs, what it leaves out, and that its gradient is right."""

import math

import pytest
import torch
from torch.nn import functional

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.interfaces import BatchPair, PairBatch
from matchkit.heads.prompt_loss import (
    PromptLossParams,
    counted,
    gaussian_targets,
    log_sampled,
    log_shares,
    near_target,
    prompt_loss,
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair_of(source: torch.Tensor, target: torch.Tensor, width: int = 9) -> BatchPair:
    cells = (points.round().long() @ torch.tensor([1, width]) for points in (source, target))
    return BatchPair(0, 1, source, target, *cells, 9.0)


def test_an_even_map_costs_the_logarithm_of_its_cells() -> None:
    """SD4Match §3.2: 49 weights that sum to 0.965425, not renormalised."""
    logs = torch.full((1, 9, 9), -math.log(81))
    loss = near_target(logs, torch.tensor([[4.0, 4.0]]), sigma=1.5)
    assert loss.item() == pytest.approx(0.965425 * math.log(81), rel=1e-6)


def test_places_on_the_border_are_lost() -> None:
    """From (0, 4) only the 3 columns right of it count, from (0.5, 4) the one that is at 0.5 too."""
    logs = torch.full((2, 9, 9), -1.0)
    losses = near_target(logs, torch.tensor([[0.0, 4.0], [0.5, 4.0]]), sigma=1.5)
    along = torch.exp(-torch.arange(-3.0, 4.0).square() / 4.5)
    scale = along.sum() / (2 * math.pi * 2.25)
    torch.testing.assert_close(losses, torch.stack([along[4:].sum(), along[3:].sum()]) * scale)


def test_probabilities_are_interpolated_and_not_their_logarithms() -> None:
    shares = drawn(3, 5, 7).flatten(1).softmax(1).unflatten(1, (5, 7))
    points = torch.tensor([[0.0, 0.0], [6.0, 4.0], [2.25, 3.5], [-3.0, 9.0], [5.999, 0.5]]).expand(3, -1, -1)
    places = points / torch.tensor([6.0, 4.0]) * 2 - 1
    expected = functional.grid_sample(shares[:, None], places[:, None], padding_mode="border", align_corners=True)
    torch.testing.assert_close(log_sampled(shares.log(), points), expected[:, 0, 0].log())


def test_a_probability_that_is_none_in_fp32_has_a_loss_and_a_gradient() -> None:
    logs = drawn(1, 9, 9).mul(400).flatten(1).log_softmax(1).unflatten(1, (9, 9)).requires_grad_()
    assert logs.exp().min() == 0
    loss = near_target(logs, torch.tensor([[4.5, 4.0]]), sigma=1.5).sum()
    loss.backward()
    assert loss.isfinite()
    assert logs.grad is not None
    assert logs.grad.isfinite().all()


def test_the_gradient_is_that_of_the_loss() -> None:
    source, target = (drawn(3, 5, 6, seed=seed).double().requires_grad_() for seed in (1, 2))
    points = torch.tensor([[1.2, 3.1], [4.9, 0.3]]).double()

    def loss(*maps: torch.Tensor) -> torch.Tensor:
        return near_target(log_shares(*maps, points, temperature=0.5), points.flip(0), sigma=1.5)

    assert torch.autograd.gradcheck(loss, (source, target))


def test_a_gaussian_over_all_cells_sums_to_one() -> None:
    points = torch.tensor([[2.0, 1.0], [-4.0, 7.5]])
    targets = gaussian_targets(points, (4, 6), sigma=0.8)
    torch.testing.assert_close(targets.sum(1), torch.ones(2))
    assert targets.argmax(1).tolist() == [8, 18]
    # next to its peak it is exp(-1 / (2 * 0.64)) of it, in both directions
    assert (targets[0, 9] / targets[0, 8]).item() == pytest.approx(math.exp(-1 / 1.28), rel=1e-5)
    assert (targets[0, 14] / targets[0, 8]).item() == pytest.approx(math.exp(-1 / 1.28), rel=1e-5)


def test_the_sketch_is_a_cross_entropy_between_whole_cells_where_its_gaussian_is_narrow() -> None:
    source, target = drawn(4, 6, 9, seed=1), drawn(4, 6, 9, seed=2)
    pair = pair_of(torch.tensor([[1.4, 2.0], [3.0, 4.6]]), torch.tensor([[7.4, 0.0], [2.0, 4.6]]))
    params = PromptLossParams(loss="source-000", sigma=0.1)
    rows, cells = (functional.normalize(maps.flatten(1).T) for maps in (source, target))
    expected = functional.cross_entropy(rows[[19, 48]] @ cells.T / 0.04, torch.tensor([7, 47]))
    assert prompt_loss(params, [(source, target, pair)])["total"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_pairs_count_alike_whatever_their_keypoints() -> None:
    maps = [drawn(4, 6, 9, seed=seed) for seed in range(4)]
    one = pair_of(torch.tensor([[1.0, 2.0]]), torch.tensor([[7.5, 3.0]]))
    many = pair_of(torch.tensor([[1.5, 2.0], [3.0, 4.5], [0.0, 0.0]]), torch.tensor([[7.0, 3.0], [2.0, 5.0], [8.0, 1]]))
    params = PromptLossParams()
    alone = [prompt_loss(params, [described])["total"] for described in ((*maps[:2], one), (*maps[2:], many))]
    both = prompt_loss(params, [(*maps[:2], one), (*maps[2:], many)])["total"]
    torch.testing.assert_close(both, torch.stack(alone).mean())


def test_it_is_computed_in_fp32_under_autocast() -> None:
    maps = [drawn(4, 6, 9, seed=seed) for seed in range(2)]
    pair = pair_of(torch.tensor([[1.0, 2.0]]), torch.tensor([[7.5, 3.0]]))
    plain = prompt_loss(PromptLossParams(), [(*maps, pair)])["total"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(prompt_loss(PromptLossParams(), [(*maps, pair)])["total"], plain)


def test_a_pair_without_keypoints_does_not_count() -> None:
    none = pair_of(torch.zeros(0, 2), torch.zeros(0, 2))
    one = pair_of(torch.tensor([[1.0, 2.0]]), torch.tensor([[7.5, 3.0]]))
    assert counted(PairBatch({}, (none, one, none), (), (6, 9))) == [one]
    with pytest.raises(DatasetError, match="none of the 2 pairs of a batch has a keypoint"):
        counted(PairBatch({}, (none, none), (), (6, 9)))


@pytest.mark.parametrize("changes", [{"temperature": 0.0}, {"sigma": -1.0}])
def test_what_cannot_be_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        PromptLossParams(**changes)  # type: ignore[arg-type]

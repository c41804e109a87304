"""The terms by hand, on tiny numbers."""

import math

import pytest
import torch

from matchkit.heads.cross_domain import terms


def test_domain_is_the_mean_difference_times_the_root_of_the_width() -> None:
    condition, photograph = torch.zeros(1, 4, 1, 2), torch.zeros(1, 4, 1, 2)
    condition[0, 0] = torch.tensor([1.0, 1.0])
    photograph[0, 0, 0, 0] = 1.0
    photograph[0, 1, 0, 1] = 1.0
    # the second of two cells differs by 1 in two of four channels: 2 / 8, times 2
    assert terms.domain(condition, photograph).item() == pytest.approx(0.5)
    assert terms.domain(condition, condition).item() == 0


def test_a_weight_of_the_domain_means_the_same_at_any_width() -> None:
    found = []
    for width in (16, 256):
        one, other = (torch.nn.functional.normalize(torch.randn(4, width, 8, 8), dim=1) for _ in range(2))
        found.append(terms.domain(one, other).item())
    assert found[0] == pytest.approx(found[1], rel=0.05)


def test_semantic_is_one_minus_the_cosine() -> None:
    warped = torch.tensor([[3.0, 0.0], [0.0, 2.0]])[None, :, :, None]
    own = torch.tensor([[1.0, 5.0], [1.0, 0.0]])[None, :, :, None]
    assert terms.semantic(warped, own).item() == pytest.approx((1 - 2**-0.5 + 1) / 2)
    assert terms.semantic(warped, 7 * warped).item() == pytest.approx(0, abs=1e-6)


def test_of_same_counts_pseudo_exemplars_alone() -> None:
    warped, own = torch.zeros(3, 2, 1, 1), torch.tensor([1.0, 100.0, 3.0])[:, None, None, None].expand(3, 2, 1, 1)
    assert terms.of_same(warped, own, torch.tensor([True, False, True])).item() == 2
    assert terms.of_same(warped, own, torch.tensor([False] * 3)).item() == 0


@pytest.mark.parametrize("others", [0, 3, 31])
@pytest.mark.parametrize("pseudo", [1, 4])
def test_of_same_does_not_depend_on_the_size_of_the_batch(pseudo: int, others: int) -> None:
    """The published code gives 1.0 / 0.25 / 0.031 for batches of 1 / 4 / 32. Source: CoCosNet §7.2 no. 4."""
    same = torch.arange(pseudo + others) < pseudo
    warped = torch.zeros(len(same), 3, 2, 2)
    assert terms.of_same(warped, warped + 1, same).item() == pytest.approx(1)


def test_cycle_is_the_mean_difference() -> None:
    assert terms.cycle(torch.tensor([[[[1.0, -2.0]]]]), torch.tensor([[[[0.0, 1.0]]]])).item() == 2


def test_parts_by_hand() -> None:
    """Three classes, four cells; the exemplar does not show class 2, so that the last cell does not count."""
    own = torch.eye(3)[[0, 1, 1, 2]].T.reshape(1, 3, 1, 4)
    exemplar = torch.eye(3)[[0, 0, 0, 1]].T.reshape(1, 3, 1, 4)
    warped = torch.tensor([[0.5, 0.5, 0.0], [0.75, 0.25, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).T.reshape(1, 3, 1, 4)
    expected = (-math.log(0.5) - math.log(0.25) - math.log(terms.LEAST)) / 3
    assert terms.parts(warped, own, exemplar).item() == pytest.approx(expected)


def test_parts_of_nothing_in_common() -> None:
    own, exemplar = torch.eye(2)[:1].T.reshape(1, 2, 1, 1), torch.eye(2)[1:].T.reshape(1, 2, 1, 1)
    assert terms.parts(exemplar, own, exemplar).item() == 0


def test_contrast_by_hand() -> None:
    """Two of three cells are asked, of which one lies beyond the copy."""
    queries, keys = torch.eye(3)[None], torch.eye(3)[None, [1, 0, 2]]
    cells, inside = torch.tensor([[1, 0, 1]]), torch.tensor([[True, False, True]])

    def found(sampled: list[int]) -> float:
        chosen = torch.tensor(sampled)
        return terms.contrast(queries, keys, cells=cells, inside=inside, sampled=chosen).item()

    right = math.log(1 + 2 * math.exp(-terms.SCALE))
    wrong = terms.SCALE + right
    assert found([0]) == pytest.approx(right, abs=1e-6)
    assert found([0, 1]) == pytest.approx(right, abs=1e-6)
    assert found([2, 1]) == pytest.approx(wrong)
    assert found([0, 2]) == pytest.approx((right + wrong) / 2)
    assert found([1]) == 0

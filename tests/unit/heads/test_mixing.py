"""The sum over timesteps by parts against autograd over all of it."""

import pytest
import torch

from matchkit.heads.bottleneck import Bottleneck
from matchkit.heads.mixing import mixed

ONE_MAP = 1
"""Bytes at work: less than one map's descriptors, so one map at a time."""


def scene(
    cells: int, *, images: int = 3, timesteps: int = 4
) -> tuple[Bottleneck, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A bottleneck that is no longer as it was at the start, maps, shares, and weights that make a loss of a sum."""
    torch.manual_seed(0)
    bottleneck = Bottleneck(24, 128)
    with torch.no_grad():
        for parameter in bottleneck.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    maps = torch.randn(images, timesteps, cells, cells, 24).permute(0, 1, 4, 2, 3)
    shares = torch.rand(timesteps, requires_grad=True)
    return bottleneck, maps, shares, torch.randn(images, 128, 6, 6)


@pytest.mark.parametrize("cells", [3, 6], ids=["resized", "on its own grid"])
@pytest.mark.parametrize("together", [1, 2], ids=["one at a time", "two at a time, one left over"])
def test_the_sum_and_its_gradient_are_those_of_autograd(cells: int, together: int) -> None:
    found = []
    for at_work in (together * 4 * 128 * 36, 1 << 30):
        bottleneck, maps, shares, weights = scene(cells)
        total = mixed(bottleneck, maps, shares, grid=(6, 6), at_work=at_work)
        (total * weights).sum().backward()
        named = {name: parameter.grad for name, parameter in bottleneck.named_parameters()}
        found.append({"total": total.detach(), "shares": shares.grad, **named})
    by_parts, whole = found
    assert by_parts.keys() == whole.keys()
    for name, values in whole.items():
        assert values is not None
        assert values.abs().max() > 0, name
        torch.testing.assert_close(by_parts[name], values, rtol=1e-4, atol=1e-4 * values.abs().max().item())


def test_a_term_is_counted_with_its_own_share() -> None:
    bottleneck, maps, _, _ = scene(6)
    for step in range(4):
        alone = mixed(bottleneck, maps, torch.eye(4)[step], grid=(6, 6), at_work=ONE_MAP)
        torch.testing.assert_close(alone, bottleneck(maps[:, step], (6, 6)), rtol=1e-5, atol=1e-5)


def test_less_is_kept_than_autograd_keeps() -> None:
    def kept(at_work: int) -> int:
        """Bytes of all tensors that the graph of a sum holds."""
        bottleneck, maps, shares, _ = scene(3)
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            total = mixed(bottleneck, maps, shares, grid=(6, 6), at_work=at_work)
        parts = getattr(total.grad_fn, "kept", [])
        sizes |= {part.data_ptr(): part.untyped_storage().nbytes() for term in parts for part in term}
        return sum(sizes.values())

    assert kept(ONE_MAP) < kept(1 << 30) / 3


def test_maps_that_want_a_gradient_get_it() -> None:
    bottleneck, maps, shares, weights = scene(6)
    maps.requires_grad_()
    (mixed(bottleneck, maps, shares, grid=(6, 6), at_work=ONE_MAP) * weights).sum().backward()
    assert maps.grad is not None
    assert maps.grad.abs().max() > 0


def test_parameters_that_were_changed_before_the_gradient_are_noticed() -> None:
    bottleneck, maps, shares, weights = scene(6)
    total = mixed(bottleneck, maps, shares, grid=(6, 6), at_work=ONE_MAP)
    with torch.no_grad():
        bottleneck.conv3.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (total * weights).sum().backward()

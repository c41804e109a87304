"""Positional normalisation and what is built on it."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from matchkit.core.errors import ConfigError
from matchkit.heads.cross_domain.spade import NonLocal, Spade, SpadeBlock, positional_norm


def zero(convolution: nn.Conv2d, bias: float = 0.0) -> None:
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.constant_(convolution.bias, bias)


def largest_singular_value(convolution: nn.Module) -> float:
    weight = convolution.weight
    assert isinstance(weight, torch.Tensor)
    value: float = torch.linalg.matrix_norm(weight.detach().flatten(1), 2).item()
    return value


def test_positional_norm_by_hand() -> None:
    """Channels 1 and 3: mean 2, unbiased variance 2 (the biased one is 1)."""
    x = torch.tensor([1.0, 3.0])[None, :, None, None]
    assert positional_norm(x).flatten().tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-5)


def test_each_position_has_mean_0_and_variance_1() -> None:
    torch.manual_seed(0)
    scales = torch.rand(2, 1, 5, 4) * 9 + 1  # each position another mean and variance
    normed = positional_norm(torch.randn(2, 32, 5, 4) * scales + 7 * scales)
    torch.testing.assert_close(normed.mean(1), torch.zeros(2, 5, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(1), torch.ones(2, 5, 4), atol=1e-4, rtol=0)


def test_a_position_without_variance_becomes_zero() -> None:
    assert positional_norm(torch.full((1, 4, 2, 2), 3.0)).abs().max() == 0


def test_zero_gamma_and_beta_leave_the_norm() -> None:
    torch.manual_seed(0)
    spade = Spade(6, 3)
    zero(spade.gamma)
    zero(spade.beta)
    x = torch.randn(2, 6, 5, 4)
    assert torch.equal(spade(x, torch.randn(2, 3, 9, 7)), positional_norm(x))


def test_gamma_multiplies_one_more_and_beta_adds() -> None:
    torch.manual_seed(0)
    spade = Spade(6, 3)
    zero(spade.gamma, 0.5)
    zero(spade.beta, -2)
    x = torch.randn(2, 6, 5, 4)
    torch.testing.assert_close(spade(x, torch.randn(2, 3, 5, 4)), positional_norm(x) * 1.5 - 2)


def test_the_hidden_channels_are_rectified() -> None:
    torch.manual_seed(0)
    spade = Spade(6, 3)
    zero(spade.shared, -1)
    zero(spade.beta)
    assert spade.gamma.bias is not None
    nn.init.zeros_(spade.gamma.bias)
    x = torch.randn(2, 6, 5, 4)
    torch.testing.assert_close(spade(x, torch.randn(2, 3, 5, 4)), positional_norm(x))


def test_the_condition_is_brought_to_the_maps_by_its_nearest_values() -> None:
    torch.manual_seed(0)
    spade, x, condition = Spade(4, 2, hidden=8), torch.randn(1, 4, 5, 4), torch.randn(1, 2, 15, 8)
    torch.testing.assert_close(spade(x, condition), spade(x, condition[..., ::3, ::2]))


def test_a_constant_condition_modulates_the_border_like_the_rest() -> None:
    """Zeros beyond the border, instead of its reflection, would not."""
    torch.manual_seed(0)
    spade, x = Spade(4, 2), torch.randn(1, 4, 1, 1).expand(-1, -1, 5, 4)
    modulated = spade(x, torch.ones(1, 2, 5, 4))
    torch.testing.assert_close(modulated, modulated[..., 2:3, 2:3].expand_as(modulated))


def test_one_channel_is_refused() -> None:
    with pytest.raises(ConfigError, match="two channels or more, not 1"):
        Spade(1, 2)


@pytest.mark.parametrize(("before", "after"), [(6, 6), (6, 4), (4, 6)])
def test_block_is_the_sum_of_its_two_ways(before: int, after: int) -> None:
    torch.manual_seed(0)
    block = SpadeBlock(before, after, condition_channels=3, hidden=8).eval()
    x, condition = torch.randn(2, before, 5, 4), torch.randn(2, 3, 10, 8)
    within = block.conv1(functional.leaky_relu(block.spade1(x, condition), 0.2))
    assert within.shape[1] == min(before, after)
    within = block.conv2(functional.leaky_relu(block.spade2(within, condition), 0.2))
    skip = x
    if before != after:
        assert "conv_skip.bias" not in dict(block.named_parameters())
        weight = block.conv_skip.weight
        assert isinstance(weight, torch.Tensor)
        skip = functional.conv2d(block.spade_skip(x, condition), weight)
    torch.testing.assert_close(block(x, condition), skip + within)


def test_only_a_blocks_own_convolutions_are_normed() -> None:
    torch.manual_seed(0)
    block = SpadeBlock(6, 4, condition_channels=3, hidden=8)
    for _ in range(20):
        block(torch.randn(1, 6, 4, 4), torch.randn(1, 3, 4, 4))
    block.eval()
    for convolution in (block.conv1, block.conv2, block.conv_skip):
        assert largest_singular_value(convolution) == pytest.approx(1, abs=1e-3)
    assert largest_singular_value(block.spade1.gamma) != pytest.approx(1, abs=1e-3)


def test_every_parameter_of_a_block_learns() -> None:
    torch.manual_seed(0)
    block = SpadeBlock(6, 4, condition_channels=3, hidden=8)
    block(torch.randn(1, 6, 4, 4), torch.randn(1, 3, 4, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in block.parameters())


def test_non_local_block_is_the_identity_at_the_start() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 6, 5)
    assert torch.equal(NonLocal(16)(x), x)


def test_non_local_block_equals_the_dense_softmax() -> None:
    torch.manual_seed(0)
    block, x = NonLocal(16).eval(), torch.randn(2, 16, 6, 5) * 3
    nn.init.constant_(block.gamma, 0.7)
    queries = block.theta(x).flatten(2)
    keys, values = (functional.max_pool2d(maps, 2).flatten(2) for maps in (block.phi(x), block.g(x)))
    assert (queries.shape, keys.shape, values.shape) == ((2, 2, 30), (2, 2, 6), (2, 8, 6))
    shares = (queries.transpose(1, 2) @ keys).softmax(2)
    found = block.o((values @ shares.transpose(1, 2)).unflatten(2, (6, 5)))
    torch.testing.assert_close(block(x), 0.7 * found + x)


def test_non_local_block_never_needs_the_plain_kernel() -> None:
    """The plain one holds the (positions x positions) matrix."""
    torch.manual_seed(0)
    x = torch.randn(2, 16, 6, 5, requires_grad=True)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        NonLocal(16)(x).sum().backward()


def test_non_local_block_refuses_channels() -> None:
    with pytest.raises(ConfigError, match="multiple of 8 channels, not 12"):
        NonLocal(12)

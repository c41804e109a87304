"""The two-scale PatchGAN at small sizes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.heads.cross_domain.discriminator import Discriminator
from matchkit.heads.cross_domain.spade import NonLocal


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def small(*, scales: int = 2, attention: bool = False) -> Discriminator:
    return Discriminator(5, scales=scales, attention=attention, width=4)


@pytest.mark.parametrize(
    ("side", "first", "second"),
    [
        (47, [23, 11, 5, 4, 3], [12, 6, 3, 2, 1]),
        (48, [24, 12, 6, 5, 4], [12, 6, 3, 2, 1]),
        (64, [32, 16, 8, 7, 6], [16, 8, 4, 3, 2]),
    ],
)
def test_sides_of_the_maps(side: int, first: list[int], second: list[int]) -> None:
    judged = small(attention=True)(torch.randn(2, 5, side, side))
    assert [[maps.shape[-1] for maps in scale] for scale in judged] == [first, second]
    assert [[maps.shape[1] for maps in scale] for scale in judged] == [[4, 8, 16, 32, 1]] * 2


@pytest.mark.parametrize(("scales", "least"), [(1, 24), (2, 47), (3, 93)])
def test_a_side_that_leaves_no_logit_is_refused(scales: int, least: int) -> None:
    judge = small(scales=scales)
    assert min(judge(torch.randn(1, 5, least, 96))[-1][-1].shape) == 1
    with pytest.raises(ConfigError, match=f"{scales} scale.* needs sides of {least} pixels, not 96 x {least - 1}"):
        judge(torch.randn(1, 5, 96, least - 1))


def test_no_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="one scale or more, not 0"):
        small(scales=0)


def test_a_constant_picture_is_as_bright_at_half_the_size() -> None:
    given: list[torch.Tensor] = []
    judge = small()
    judge.scales[1].register_forward_pre_hook(lambda _, told: given.append(told[0]))
    judge(torch.ones(1, 5, 48, 48))
    torch.testing.assert_close(given[0], torch.ones(1, 5, 24, 24))


def test_equals_its_layers_one_by_one() -> None:
    judge, x = small(scales=1).eval(), torch.randn(2, 5, 32, 24)
    first, *middle, last = [module for module in judge.modules() if isinstance(module, nn.Conv2d)]
    assert [convolution.stride[0] for convolution in (first, *middle, last)] == [2, 2, 2, 1, 1]
    assert [convolution.bias is None for convolution in (first, *middle, last)] == [False, True, True, True, False]
    normed = [nn.utils.parametrize.is_parametrized(convolution) for convolution in (first, *middle, last)]
    assert normed == [False, True, True, True, False]
    expected = [functional.leaky_relu(first(x), 0.2)]
    for convolution in middle:
        norm = nn.InstanceNorm2d(convolution.out_channels)
        expected.append(functional.leaky_relu(norm(convolution(expected[-1])), 0.2))
    expected.append(last(expected[-1]))
    torch.testing.assert_close(judge(x), (tuple(expected),))


def test_attention_comes_in_before_the_fourth_map() -> None:
    judge, x = small(scales=1, attention=True).eval(), torch.randn(1, 5, 48, 48)
    before = judge(x)[0]
    (block,) = [module for module in judge.modules() if isinstance(module, NonLocal)]
    nn.init.ones_(block.gamma)
    same = [torch.equal(a, b) for a, b in zip(before, judge(x)[0], strict=True)]
    assert same == [True, True, True, False, False]

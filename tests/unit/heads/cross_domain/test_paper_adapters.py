"""The published adapters and trunk, narrow ones."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.heads.cross_domain.paper_adapters import PaperAdapter, SharedTrunk
from matchkit.heads.cross_domain.spade import SpadeBlock


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def widths(block: SpadeBlock) -> tuple[int, int]:
    first, second = block.conv1, block.conv2
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    return first.in_channels, second.out_channels


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("size", [(16, 16), (8, 20)])
def test_unit_vectors_at_a_quarter_of_the_size(kernel: int, size: tuple[int, int]) -> None:
    vectors = PaperAdapter(5, kernel, width=4)(torch.randn(2, 5, *size))
    assert vectors.shape == (2, 16, size[0] // 4, size[1] // 4)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2, size[0] // 4, size[1] // 4))


def test_equals_its_layers_one_by_one() -> None:
    adapter, picture = PaperAdapter(3, 4, width=4).eval(), torch.randn(2, 3, 16, 12)
    x = picture
    for number, convolution in enumerate(adapter.convolutions):
        x = convolution(functional.leaky_relu(x, 0.2) if number > 0 else x)
        x = nn.InstanceNorm2d(x.shape[1])(x)
    for block in adapter.blocks:
        x = block(x, picture)
    torch.testing.assert_close(adapter(picture), functional.normalize(x, dim=1))


def test_its_layers() -> None:
    adapter = PaperAdapter(3, 4, width=4)
    convolutions = [c for c in adapter.convolutions if isinstance(c, nn.Conv2d)]
    shapes = [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions]
    assert shapes == [(3, 4, 3, 1), (4, 8, 4, 2), (8, 16, 3, 1), (16, 32, 4, 2), (32, 32, 3, 1)]
    assert all(nn.utils.parametrize.is_parametrized(c) and c.bias is None for c in convolutions)
    blocks = [block for block in adapter.blocks if isinstance(block, SpadeBlock)]
    assert [widths(block) for block in blocks] == [(32, 32), (32, 32), (32, 16)]
    assert {b.spade1.shared.in_channels for b in blocks} == {3}


def test_samples_do_not_see_each_other() -> None:
    adapter, pictures = PaperAdapter(3, 3, width=4).eval(), torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(adapter(pictures)[1:2], adapter(pictures[1:2]))


@pytest.mark.parametrize("size", [(18, 16), (16, 4)])
def test_sizes_that_do_not_fit_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"multiples of 4, not {size[0]} x {size[1]}"):
        PaperAdapter(3, 3, width=4)(torch.randn(1, 3, *size))


def test_another_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 or 4, not 5"):
        PaperAdapter(3, 5)


def test_trunk_equals_its_layers_one_by_one() -> None:
    trunk, vectors = SharedTrunk(6), torch.randn(2, 6, 5, 4)
    slopes = [values for name, values in trunk.named_parameters() if "prelu" in name]
    weights = [values for name, values in trunk.named_parameters() if "conv" in name]
    assert [values.numel() for values in slopes] == [1, 1, 1, 1]
    assert [values.shape for values in weights] == [(6, 6, 3, 3)] * 8
    x, norm, pad = vectors, nn.InstanceNorm2d(6), nn.ReflectionPad2d(1)
    for number, slope in enumerate(slopes):
        nn.init.constant_(slope, 0.1 * (number + 1))
        first, second = weights[2 * number : 2 * number + 2]
        within = functional.prelu(norm(functional.conv2d(pad(x), first)), slope)
        x = functional.prelu(norm(functional.conv2d(pad(within), second)) + x, slope)
    torch.testing.assert_close(trunk(vectors), x)

"""The translation network at small sizes."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.heads.cross_domain.generator import Generator, GeneratorParams
from matchkit.heads.cross_domain.spade import SpadeBlock


def small(**changes: Any) -> Generator:
    torch.manual_seed(0)
    told: dict[str, Any] = {"width": 4, "ups": 3, "modulation": 8} | changes
    return Generator(GeneratorParams(**told), condition_channels=5, exemplar_channels=2, out_channels=4)


def blocks(generator: Generator) -> list[SpadeBlock]:
    return [module for module in generator.modules() if isinstance(module, SpadeBlock)]


def widths(block: SpadeBlock) -> tuple[int, int]:
    first, second = block.conv1, block.conv2
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    return first.in_channels, second.out_channels


@pytest.mark.parametrize(("ups", "size"), [(1, (4, 6)), (2, (16, 8)), (3, (16, 24))])
def test_a_picture_of_the_conditions_size(ups: int, size: tuple[int, int]) -> None:
    generator = small(ups=ups, attention=ups > 1)
    assert generator(torch.randn(2, 2, *size), torch.randn(2, 5, *size)).shape == (2, 4, *size)


def test_it_is_not_bounded() -> None:
    generator = small()
    assert generator.finish.bias is not None
    nn.init.constant_(generator.finish.bias, 5)
    assert generator(torch.randn(1, 2, 16, 16), torch.randn(1, 5, 16, 16)).mean() > 3


def test_the_published_plan() -> None:
    params = GeneratorParams()
    assert [params.channels(level) for level in range(6)] == [1024, 1024, 512, 256, 128, 64]
    assert (params.ups, params.middle, params.attention, params.modulation) == (5, 2, True, 128)


def test_blocks_narrow_from_the_second_doubling_on() -> None:
    built = blocks(small(ups=4))
    assert [widths(block) for block in built] == [(32, 32), (32, 32), (32, 32), (32, 16), (16, 8), (8, 4)]
    assert {block.spade1.shared.in_channels for block in built} == {7}
    assert {block.spade1.shared.out_channels for block in built} == {8}
    assert len(blocks(small(ups=4, middle=1))) == 5


def test_sizes_at_which_its_parts_work() -> None:
    generator, sides = small(), []

    def note(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        sides.append((type(module).__name__, given[0].shape[-1]))

    for part in (*blocks(generator), generator.attention):
        assert part is not None
        part.register_forward_pre_hook(note)
    generator(torch.randn(1, 2, 32, 32), torch.randn(1, 5, 32, 32))
    before = [("SpadeBlock", 4), ("SpadeBlock", 8), ("SpadeBlock", 8)]
    assert sides == [*before, ("NonLocal", 16), ("SpadeBlock", 16), ("SpadeBlock", 32)]


def test_equals_its_layers_one_by_one() -> None:
    generator = small(ups=2).eval()
    assert generator.attention is not None
    nn.init.ones_(generator.attention.gamma)
    warped, condition = torch.randn(2, 2, 8, 12), torch.randn(2, 5, 8, 12)
    shown = torch.cat([warped, condition], 1)
    least, *middle, whole = blocks(generator)
    x = least(generator.start(shown[..., ::4, ::4]), shown)
    x = generator.attention(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    for block in middle:
        x = block(x, shown)
    x = whole(x.repeat_interleave(2, 2).repeat_interleave(2, 3), shown)
    torch.testing.assert_close(generator(warped, condition), generator.finish(functional.leaky_relu(x, 0.2)))


def test_exemplar_and_condition_both_modulate() -> None:
    generator = small().eval()
    warped, condition = torch.randn(1, 2, 16, 16), torch.randn(1, 5, 16, 16)
    plain = generator(warped, condition)
    # the 8x8 stem of 2x2 cells sees only every eighth pixel, so these changes come in by modulation
    for changed in (warped, condition):
        again = changed.clone()
        again[..., 3, 3] += 1
        told = (again, condition) if changed is warped else (warped, again)
        assert not torch.allclose(generator(*told), plain)


def test_every_parameter_but_the_attentions_learns_at_the_start() -> None:
    generator = small()
    generator(torch.randn(2, 2, 16, 16), torch.randn(2, 5, 16, 16)).square().mean().backward()
    for name, values in generator.named_parameters():
        assert values.grad is not None
        assert values.grad.abs().max() > 0 or name.startswith("attention."), name


def test_the_toy_is_of_the_size_that_was_measured() -> None:
    """CoCosNet §6.4: 0.72 M parameters, four blocks; of 11 classes and a photograph."""
    params = GeneratorParams(width=24, ups=3, middle=1, attention=False, modulation=20)
    generator = Generator(params, condition_channels=11, exemplar_channels=3, out_channels=3)
    assert len(blocks(generator)) == 4
    assert sum(values.numel() for values in generator.parameters()) == pytest.approx(0.72e6, abs=5e3)


@pytest.mark.parametrize("size", [(20, 16), (16, 20), (8, 16)])
def test_sizes_that_do_not_fit_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"3 doublings makes sides of 16 .* of 8, not {size[0]} x {size[1]}: set ups"):
        small()(torch.randn(1, 2, *size), torch.randn(1, 5, *size))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 1}, "width must be 2 or more, not 1"),
        ({"ups": 0}, "ups must be 1 or more, not 0"),
        ({"middle": 0}, "middle must be 1 or more, not 0"),
        ({"modulation": 0}, "modulation must be 1 or more, not 0"),
        ({"ups": 1}, "attention needs ups of 2 or more"),
        ({"width": 3}, "multiple of 8 channels, not 12"),
    ],
)
def test_plans_that_cannot_be_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**changes)

"""What is kept of a UNet's activations, and what is computed again."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.autograd.graph import saved_tensors_hooks

from matchkit.extract.backbones.checkpointing import checkpointed


@pytest.fixture
def unet(sd_folder: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet").eval().requires_grad_(requires_grad=False)


def forward(unet: UNet2DConditionModel, states: torch.Tensor) -> torch.Tensor:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    output: torch.Tensor = unet(latents, 261, encoder_hidden_states=states).sample
    return output


def counted(unet: UNet2DConditionModel) -> Counter[str]:
    calls: Counter[str] = Counter()
    for name, module in unet.named_modules():
        if name in ("down_blocks.0.resnets.1.conv1", "up_blocks.1.attentions.0.proj_in"):
            module.register_forward_pre_hook(lambda module, taken, name=name: calls.update([name]))
    return calls


def saved(unet: UNet2DConditionModel, states: torch.Tensor) -> int:
    """Bytes that a backward pass would need."""
    sizes: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(unet, states)
    return sum(sizes)


def test_activations_are_computed_again_when_backward(unet: UNet2DConditionModel) -> None:
    checkpointed(unet)
    calls = counted(unet)
    states = torch.rand(1, 6, 8, requires_grad=True)
    output = forward(unet, states)
    assert set(calls.values()) == {1}
    output.sum().backward()
    assert set(calls.values()) == {2}


def test_less_is_kept(unet: UNet2DConditionModel) -> None:
    states = torch.rand(1, 6, 8, requires_grad=True)
    plain = saved(unet, states)
    checkpointed(unet)
    assert saved(unet, states) < plain / 2


def test_nothing_is_computed_twice_without_a_gradient(unet: UNet2DConditionModel) -> None:
    states = torch.rand(1, 6, 8)
    with torch.no_grad():
        plain = forward(unet, states)
        checkpointed(unet)
        calls = counted(unet)
        assert torch.equal(forward(unet, states), plain)
    assert set(calls.values()) == {1}


def test_a_module_that_is_read_from_within_stays_as_it_is(unet: UNet2DConditionModel) -> None:
    read, other = unet.up_blocks[1].resnets[0], unet.up_blocks[1].resnets[1]
    before = read.forward
    read.conv2.register_forward_hook(lambda *_: None)
    checkpointed(unet)
    assert read.forward == before
    assert other.forward != type(other).forward.__get__(other)

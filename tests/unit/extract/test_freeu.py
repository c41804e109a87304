"""FreeU's two halves, and what it changes of a UNet's decoder."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from matchkit.extract.backbones.freeu import FreeU, lower_low_frequencies, raise_half


def shifted(maps: torch.Tensor, factor: float) -> torch.Tensor:
    """The filter as its publication writes it: the central 2 x 2 cells of a shifted spectrum."""
    spectrum = torch.fft.fftshift(torch.fft.fftn(maps, dim=(-2, -1)), dim=(-2, -1))
    row, column = (cells // 2 for cells in maps.shape[-2:])
    spectrum[..., max(0, row - 1) : row + 1, max(0, column - 1) : column + 1] *= factor
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=(-2, -1)), dim=(-2, -1)).real


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (6, 9), (2, 2), (1, 1), (1, 4)])
def test_the_filter_is_the_published_one(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lower_low_frequencies(maps, 0.2), shifted(maps, 0.2), rtol=1e-5, atol=1e-6)


def test_a_constant_is_all_low_frequency() -> None:
    torch.testing.assert_close(
        lower_low_frequencies(torch.full((1, 1, 6, 6), 2.0), 0.25), torch.full((1, 1, 6, 6), 0.5)
    )


def test_the_type_of_the_maps_is_kept() -> None:
    assert lower_low_frequencies(torch.ones(1, 1, 3, 3, dtype=torch.bfloat16), 0.9).dtype == torch.bfloat16


def test_half_of_the_channels_is_raised() -> None:
    raised = raise_half(torch.ones(1, 4, 2, 2), 1.4)
    assert raised[:, :2].eq(1.4).all()
    assert raised[:, 2:].eq(1).all()


def test_what_enters_each_resnet(sd_folder: Path) -> None:
    """By channels: 12 of the middle and of `up0` are widest, 8 come second, and 4 are left alone."""
    unet = UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet").eval()
    entered: dict[str, list[torch.Tensor]] = {"before": [], "after": []}
    resnets = [resnet for block in unet.up_blocks for resnet in block.resnets]
    FreeU().install(unet)
    for resnet in resnets:
        resnet.register_forward_pre_hook(lambda module, inputs: entered["before"].append(inputs[0]), prepend=True)
        resnet.register_forward_pre_hook(lambda module, inputs: entered["after"].append(inputs[0]))
    with torch.no_grad():
        unet(torch.ones(1, 4, 8, 8), 50, encoder_hidden_states=torch.ones(1, 6, 8))
    own = [12, 12, 12, 12, 8, 8, 8, 8, 8, 8, 4, 4]
    for channels, before, after in zip(own, entered["before"], entered["after"], strict=True):
        raised, lowered = {12: (1.2, 0.9), 8: (1.4, 0.2), 4: (1.0, 1.0)}[channels]
        torch.testing.assert_close(after[:, :channels], raise_half(before[:, :channels], raised))
        torch.testing.assert_close(
            after[:, channels:], shifted(before[:, channels:], lowered) if lowered < 1 else before[:, channels:]
        )

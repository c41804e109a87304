"""The sizes of the published networks, those that `specs/cocosnet.md` says were run."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from matchkit.heads.cross_domain import discriminator, paper_adapters, spade
from matchkit.heads.cross_domain.discriminator import Discriminator
from matchkit.heads.cross_domain.generator import Generator, GeneratorParams
from matchkit.heads.cross_domain.paper_adapters import PaperAdapter, SharedTrunk

META = torch.device("meta")
MATCHED = 256
"""Channels of the shared space, and of theta and phi."""


@dataclass(frozen=True)
class Published:
    """A data set's networks: `specs/cocosnet.md` §1.1, §1.2, §1.3 and §2; sizes in millions of parameters."""

    condition: int
    kernel: int
    mask_beside: bool
    correspondence: float
    generator: float


PUBLISHED = {
    "ade20k": Published(151, 3, mask_beside=True, correspondence=59.3, generator=96.7),
    "celebahq": Published(19, 4, mask_beside=True, correspondence=53.6, generator=92.7),
    "celebahqedge": Published(15, 4, mask_beside=True, correspondence=53.4, generator=92.6),
    "deepfashion": Published(20, 4, mask_beside=False, correspondence=52.8, generator=92.7),
}


@pytest.fixture(autouse=True)
def on_meta(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shapes without numbers; a spectral norm has no parameters, and its power iterations take long for nothing."""
    for module in (discriminator, paper_adapters, spade):
        monkeypatch.setattr(module, "spectral_norm", lambda layer: layer)
    with META:
        yield


def millions(*networks: nn.Module) -> float:
    return round(sum(values.numel() for network in networks for values in network.parameters()) / 1e6, 1)


def generator_of(published: Published) -> Generator:
    return Generator(GeneratorParams(), condition_channels=published.condition, exemplar_channels=3, out_channels=3)


def test_adapters_of_ade20k() -> None:
    assert millions(PaperAdapter(151, 3)) == 24.2
    assert millions(PaperAdapter(3, 3)) == 22.9


@pytest.mark.parametrize("name", PUBLISHED)
def test_correspondence_network(name: str) -> None:
    published = PUBLISHED[name]
    width = MATCHED + published.condition * published.mask_beside
    theta, phi = (nn.Conv2d(width, MATCHED, 1) for _ in range(2))
    adapters = [PaperAdapter(channels, published.kernel) for channels in (published.condition, 3)]
    assert millions(*adapters, SharedTrunk(width), theta, phi) == published.correspondence


@pytest.mark.parametrize("name", PUBLISHED)
def test_generator(name: str) -> None:
    assert millions(generator_of(PUBLISHED[name])) == PUBLISHED[name].generator


def unused_decoder(classes: int) -> int:
    """Parameters, a scale, of the published segmentation decoder, which no loss uses: 256 - 128 - 64 - 32 - classes."""
    halvings = sum(9 * before * before // 2 for before in (256, 128, 64))
    return halvings + (9 * 32 + 1) * classes


@pytest.mark.parametrize(("name", "whole", "here"), [("ade20k", 6.9, 6.0), ("celebahqedge", 6.5, 5.7)])
def test_discriminator(name: str, whole: float, here: float) -> None:
    """The published 6.5 to 6.9 M are with the decoder."""
    classes = PUBLISHED[name].condition
    judge = Discriminator(classes + 3, attention=True)
    assert millions(judge) == here
    count = sum(values.numel() for values in judge.parameters()) + 2 * unused_decoder(classes)
    assert round(count / 1e6, 1) == whole


def test_maps_at_256_pixels() -> None:
    published = PUBLISHED["deepfashion"]
    condition, photo = torch.empty(1, published.condition, 256, 256), torch.empty(1, 3, 256, 256)
    for picture in (condition, photo):
        assert PaperAdapter(picture.shape[1], published.kernel)(picture).shape == (1, MATCHED, 64, 64)
    assert generator_of(published)(photo, condition).shape == (1, 3, 256, 256)
    judged = Discriminator(published.condition + 3)(torch.cat([condition, photo], 1))
    sides = [[maps.shape[-1] for maps in scale] for scale in judged]
    assert sides == [[128, 64, 32, 31, 30], [64, 32, 16, 15, 14]]


def test_the_generators_attention_is_at_half_the_size() -> None:
    """`specs/cocosnet.md` §2.2: 256 channels at 128 pixels, and seven blocks."""
    generator, shapes = generator_of(PUBLISHED["deepfashion"]), []
    assert generator.attention is not None
    generator.attention.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    generator(torch.empty(1, 3, 256, 256), torch.empty(1, 20, 256, 256))
    assert shapes == [(1, 256, 128, 128)]
    assert sum(isinstance(module, spade.SpadeBlock) for module in generator.modules()) == 7

"""Drawn photographs of both domains, as these heads are given them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from matchkit.core.exemplar_batches import LATENT, PARTS, PHOTO, ExemplarBatch, Photographs
from matchkit.core.spec import FeatureSpec, LayerSpec

Draw = Callable[..., Photographs]
DrawBatch = Callable[..., ExemplarBatch]
CLASSES = 3


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def spec() -> FeatureSpec:
    """Two layers of another grid than the heads', at two timesteps."""
    layers = (LayerSpec("a", 6, (4, 4)), LayerSpec("b", 5, (8, 8)))
    return FeatureSpec("pixels", "none", layers, (0, 90), (32, 32), "stretch", "fp32")


@pytest.fixture
def photographs() -> Draw:
    """Draws photographs: a one-hot mask of 16 px as condition and as parts, pixels of 16 px, latents of 8 x 8."""

    def drawn(ids: Sequence[str], *, seed: int = 0, side: int = 16, steps: int = 1) -> Photographs:
        draw = torch.Generator().manual_seed(seed)
        count = len(ids)
        labels = torch.randint(CLASSES, (count, side // 4, side // 4), generator=draw)
        hot = torch.nn.functional.one_hot(labels, CLASSES).permute(0, 3, 1, 2).float()
        parts = hot.repeat_interleave(4, 2).repeat_interleave(4, 3)
        photo = torch.rand(count, 3, side, side, generator=draw) * 2 - 1
        latent = torch.randn(count, 4, 8, 8, generator=draw)
        maps = {
            "a": torch.randn(count, steps, 6, 4, 4, generator=draw),
            "b": torch.randn(count, steps, 5, 8, 8, generator=draw),
        }
        return Photographs(tuple(ids), maps, parts, {PHOTO: photo, LATENT: latent, PARTS: parts.clone()})

    return drawn


@pytest.fixture
def batch(photographs: Draw) -> DrawBatch:
    """Draws a batch of as many pairs as there are answers to whether they show the same."""

    def drawn(same: Sequence[bool] = (True, False), *, number: int = 0, side: int = 16) -> ExemplarBatch:
        targets = photographs([f"t{row}" for row in range(len(same))], side=side)
        exemplars = photographs([f"e{row}" for row in range(len(same))], seed=1, side=side)
        return ExemplarBatch(targets, exemplars, torch.tensor(same), number)

    return drawn


@pytest.fixture
def rows() -> Callable[[ExemplarBatch, slice], ExemplarBatch]:
    """Takes some rows of a batch."""

    def of(photographs: Photographs, taken: slice) -> Photographs:
        return replace(
            photographs,
            ids=photographs.ids[taken],
            maps={name: values[taken] for name, values in photographs.maps.items()},
            condition=photographs.condition[taken],
            payloads={name: values[taken] for name, values in photographs.payloads.items()},
        )

    def cut(batch: ExemplarBatch, taken: slice) -> ExemplarBatch:
        return replace(
            batch,
            targets=of(batch.targets, taken),
            exemplars=of(batch.exemplars, taken),
            same=batch.same[taken],
        )

    return cut

"""Every head: finite descriptors on its grid, built again from its own configuration, and trained where it trains."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import LATENT, PARTS, PHOTO, ExemplarBatch, ExemplarHead, Photographs
from matchkit.core.interfaces import (
    BatchPair,
    Head,
    ImageHead,
    Maps,
    PairBatch,
    PairHead,
    PromptableBackbone,
    PromptedHead,
    TrainableHead,
)
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads import HEADS

LAYERS = (LayerSpec("up0.0", 6, (2, 3)), LayerSpec("up1.0", 4, (4, 6)))
SPEC = FeatureSpec("sd-inversion", "none", LAYERS, (-1, 460), (48, 32), "stretch", "fp16")
LATENTS = (LayerSpec("latent", 4, (4, 6)), LayerSpec("dino", 3, (2, 3)))
OF_PROMPTS = replace(SPEC, backbone="sd-latents", layers=LATENTS, timesteps=(0,))
SPECS = {"prompt": OF_PROMPTS, "conditional-prompt": OF_PROMPTS}
"""The features of heads that read others than SPEC's."""
MATCHER = {"channels": 3, "side": 16, "grid": 4, "width": 16, "out": 8, "sampled": 16}
SMALLEST: dict[str, dict[str, Any]] = {
    "aggregator": {"projection": 128},
    "post-processor": {"projection": 128},
    "sequential-post-processor": {"hidden": 16, "depth": 2},
    "cross-domain": MATCHER,
    "translator": {
        **{"matcher": MATCHER, "joint": True, "base": False},
        "generator": {"width": 4, "ups": 1, "attention": False, "modulation": 4},
    },
}
"""Parameters by which a head is small; none where its defaults are."""

REMEMBERED = ("._u", "._v")
"""What a spectral norm keeps beside its parameters: no gradient moves it."""

Draw = Callable[..., Maps]
Build = Callable[..., Head]
Trainable = Callable[[str], TrainableHead]
pytestmark = pytest.mark.parametrize("name", list(HEADS.table()))


@pytest.fixture
def build(promptable: PromptableBackbone) -> Build:
    """Builds a head small, with the backbone that it prompts."""

    def built(name: str, params: dict[str, Any] | None = None) -> Head:
        head: Head = HEADS.build(
            name, SMALLEST.get(name, {}) if params is None else params, where=name, spec=SPECS.get(name, SPEC)
        )
        if isinstance(head, PromptedHead):
            head.take(promptable)
        return head

    return built


@pytest.fixture
def trainable(build: Build) -> Trainable:
    """Builds a head, or skips the test of one that has no parameters."""

    def built(name: str) -> TrainableHead:
        head = build(name)
        if not isinstance(head, TrainableHead):
            pytest.skip(f"{name} has no parameters")
        return head

    return built


def described(head: Head, maps: Maps) -> torch.Tensor:
    """The descriptors of two images."""
    ids = [f"cat/{number}" for number in range(len(next(iter(maps.values()))))]
    return head.describe_pair(maps, ids) if isinstance(head, PairHead) else head.describe(maps, ids)


def pairs(head: Head, maps: Maps) -> PairBatch:
    """Two pairs of the batch's three images, of three keypoints and of one."""
    cells = head.grid[0] * head.grid[1]
    source = (torch.tensor([0, 1, cells - 1]), torch.tensor([2]))
    target = (torch.tensor([3, 0, 1]), torch.tensor([cells - 1]))
    made = []
    for rows, *of_pair, side in zip(((0, 2), (1, 0)), source, target, (4.0, 3.0), strict=True):
        points = [torch.stack([cell % head.grid[1], cell // head.grid[1]], 1) + 0.25 for cell in of_pair]
        made.append(BatchPair(*rows, *points, *of_pair, side))
    return PairBatch(maps, tuple(made), ("cat/a", "cat/b", "cat/c"), head.grid)


def photographs(ids: tuple[str, ...], maps: Maps, *, seed: int) -> Photographs:
    """Some images with a mask of blocks as their condition, each part in a colour of its own."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (len(ids), 4, 4), generator=draw)
    parts = functional.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    condition = functional.interpolate(parts, size=(16, 16))
    photo = functional.interpolate(0.8 - 0.3 * parts, size=(16, 16))
    latent = torch.randn(len(ids), 4, 4, 4, generator=draw)
    return Photographs(ids, maps, condition, {PHOTO: photo, LATENT: latent, PARTS: condition})


def exemplars(maps: Maps) -> ExemplarBatch:
    """Two conditions of the batch's three images, one of them with an exemplar that shows the same."""
    targets, others = ({layer: values[rows] for layer, values in maps.items()} for rows in ([0, 1], [2, 0]))
    return ExemplarBatch(
        photographs(("cat/a", "cat/b"), targets, seed=0),
        photographs(("cat/c", "cat/a"), others, seed=1),
        torch.tensor([True, False]),
        progress=0.0,
    )


def training(head: Head, name: str, batch_maps: Draw) -> Any:
    """A batch of the kind that a head is fitted on."""
    maps = batch_maps(SPECS.get(name, SPEC), head, batch=3)
    return exemplars(maps) if isinstance(head, ExemplarHead) else pairs(head, maps)


def test_descriptors_are_finite_on_the_heads_grid(name: str, build: Build, batch_maps: Draw) -> None:
    head = build(name)
    assert isinstance(head, Head)
    spec = SPECS.get(name, SPEC)
    assert set(head.layers) <= {layer.name for layer in spec.layers}
    assert set(head.timesteps) <= set(spec.timesteps)
    descriptors = described(head, batch_maps(spec, head, batch=2))
    assert descriptors.shape[::2] == (2, head.grid[0])
    assert descriptors.shape[3] == head.grid[1]
    assert descriptors.dtype == torch.float32
    assert descriptors.isfinite().all()


def test_an_image_is_described_whatever_stands_beside_it(name: str, build: Build, batch_maps: Draw) -> None:
    head = build(name)
    if not isinstance(head, ImageHead):
        pytest.skip(f"{name} describes pairs")
    maps = batch_maps(SPECS.get(name, SPEC), head, batch=3)
    alone = head.describe({layer: values[1:2] for layer, values in maps.items()}, ["cat/1"])
    torch.testing.assert_close(alone, described(head, maps)[1:2], rtol=1e-4, atol=1e-5)


def test_different_images_have_different_descriptors(name: str, build: Build, batch_maps: Draw) -> None:
    head = build(name)
    source, target = described(head, batch_maps(SPECS.get(name, SPEC), head, batch=2))
    assert (source - target).abs().max() > 1e-3


def test_built_again_from_its_configuration_it_is_equal(name: str, build: Build, batch_maps: Draw) -> None:
    head = build(name)
    again = build(name, json.loads(json.dumps(head.config())))
    assert again.config() == head.config()
    assert (again.grid, again.layers, again.timesteps) == (head.grid, head.layers, head.timesteps)
    maps = batch_maps(SPECS.get(name, SPEC), head, batch=2)
    assert torch.equal(described(again, maps), described(head, maps))


def test_an_unknown_parameter_is_refused(name: str, build: Build) -> None:
    with pytest.raises(ConfigError, match=f"{name}: no parameter 'zzz'"):
        build(name, {"zzz": 1})


def test_the_loss_is_finite_and_reaches_every_parameter(name: str, trainable: Trainable, batch_maps: Draw) -> None:
    head = trainable(name)
    terms = head.loss(training(head, name, batch_maps))
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    terms["total"].backward()
    parameters = [parameter for group in head.parameter_groups() for parameter in group["params"]]
    state = {key: tensor for key, tensor in head.state_dict().items() if not key.endswith(REMEMBERED)}
    assert {parameter.shape for parameter in parameters} == {tensor.shape for tensor in state.values()}
    for parameter in parameters:
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().max() > 0


def test_the_loss_falls(name: str, trainable: Trainable, batch_maps: Draw) -> None:
    head = trainable(name)
    batch = training(head, name, batch_maps)
    optimiser = torch.optim.AdamW(list(head.parameter_groups()), lr=1e-2)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = head.loss(batch)["total"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_the_state_is_taken_back(name: str, trainable: Trainable, batch_maps: Draw) -> None:
    head, other = trainable(name), trainable(name)
    maps = batch_maps(SPECS.get(name, SPEC), head, batch=2)
    with torch.no_grad():
        for group in head.parameter_groups():
            for parameter in group["params"]:
                parameter.add_(torch.linspace(0, 0.1, parameter.numel()).reshape(parameter.shape))
        assert not torch.equal(described(head, maps), described(other, maps))
        other.load_state_dict({key: tensor.clone() for key, tensor in head.state_dict().items()})
        assert torch.equal(described(head, maps), described(other, maps))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(dict(list(head.state_dict().items())[1:]))

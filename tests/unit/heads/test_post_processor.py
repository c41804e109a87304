"""The post-processor against the golden values and parameter counts of the published network."""

import math

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import BatchPair, PairBatch
from matchkit.core.similarity import resize
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.post_processor import PostProcessor, PostProcessorNetwork, PostProcessorParams

PUBLISHED = [640, 1280, 1280, 768]
LAYERS = (LayerSpec("coarse", 128, (4, 4)), LayerSpec("fine", 12, (8, 8)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (50,), (64, 64), "stretch", "fp32")


def waves(*shape: int) -> torch.Tensor:
    """The golden kernel of a shape (o,i,ky,kx): cos(o + i / 2 + ky - kx) over the root of its fan-in."""
    o, i, ky, kx = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in shape), indexing="ij")
    return torch.cos(o + 0.5 * i + ky - kx) / math.sqrt(math.prod(shape[1:]))


def test_golden_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Geoaware §2, in double precision."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    network = PostProcessorNetwork(PUBLISHED, projection=768).double()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 4:
                parameter.copy_(waves(*parameter.shape))
        network.mixing_weights.copy_(torch.arange(4.0))
    axes = (torch.arange(size, dtype=torch.float64) for size in (sum(PUBLISHED), 6, 6))
    channel, y, x = torch.meshgrid(*axes, indexing="ij")
    maps = torch.sin(0.01 * channel + 0.1 * y + 0.2 * x)[None, None]
    out = network(maps.split(PUBLISHED, dim=2), (6, 6))[0].detach()
    assert out.mean().item() == pytest.approx(0.516417881896671, rel=1e-10)
    assert out.std().item() == pytest.approx(0.5750389944167962, rel=1e-10)
    expected = [1.303931630075643, 0.9661798509420311, 0.3420217825200055, 0.1291327688150305, 0.6645062492284246]
    assert out[:5, 2, 3].tolist() == pytest.approx(expected, rel=1e-10)
    assert out[:, 0, 0].sum().item() == pytest.approx(403.4896660715399, rel=1e-10)


def test_parameters_of_the_published_network() -> None:
    network = PostProcessorNetwork(PUBLISHED, projection=768)
    assert sum(parameter.numel() for parameter in network.parameters()) == 5_150_214
    branches = [sum(parameter.numel() for parameter in stage.parameters()) for stage in network.bottleneck_layers]
    assert branches == [1_097_472, 1_711_872, 1_711_872, 628_992]
    assert network.logit_scale.item() == pytest.approx(2.6593, abs=1e-4)
    names = set(network.state_dict())
    assert {"mixing_weights", "logit_scale", "self_logit_scale"} < names
    assert "bottleneck_layers.0.0.shortcut.norm.bias" in names
    assert not any(name.startswith("bottleneck_layers.3.0.shortcut") for name in names)


def batch_of(spec: FeatureSpec, number: int = 0) -> PairBatch:
    """One pair of keypoints, each a quarter of a cell right of and below its cell's centre."""
    generator = torch.Generator().manual_seed(7)
    maps = {layer.name: torch.randn(2, 1, layer.channels, *layer.grid, generator=generator) for layer in spec.layers}
    cells = torch.tensor([0, 9, 30, 63]), torch.tensor([5, 63, 17, 40])
    points = (torch.stack([cell % 8, cell // 8], 1) + 0.25 for cell in cells)
    return PairBatch(maps, (BatchPair(0, 1, *points, *cells, 6.0),), ("a", "b"), (8, 8), number)


def head(**changes: float) -> PostProcessor:
    return PostProcessor(PostProcessorParams(projection=128, **changes), spec=SPEC)  # type: ignore[arg-type]


def test_noise_and_dropout_belong_to_the_batchs_number() -> None:
    drawn = head()
    losses = [drawn.loss(batch_of(SPEC, number))["total"].item() for number in (3, 4, 3)]
    assert losses[0] == losses[2] != losses[1]
    plain = head(dropout=0.0, noise=0.0)
    assert plain.loss(batch_of(SPEC, 3))["total"].item() == plain.loss(batch_of(SPEC, 4))["total"].item()


def test_dropout_is_of_the_resized_maps_and_keeps_their_mean() -> None:
    maps = {"coarse": torch.ones(1, 1, 128, 4, 4), "fine": torch.ones(1, 1, 12, 8, 8)}
    coarse, fine = head()._dropped(maps, torch.Generator().manual_seed(0))
    assert coarse.shape == (1, 1, 128, 8, 8)
    assert fine.shape == (1, 1, 12, 8, 8)
    assert set(coarse.unique().tolist()) == {0.0, 1.25}
    assert coarse.mean().item() == pytest.approx(1, abs=0.03)
    assert (coarse[..., :2, :2].flatten(3).unique(dim=-1).shape[-1]) > 1  # within what was one cell, too


def test_weights_of_the_losses() -> None:
    terms = head(dropout=0.0, noise=0.0, sparse=2.0, dense=0.5).loss(batch_of(SPEC))
    assert terms["total"].item() == pytest.approx(2 * terms["sparse"].item() + 0.5 * terms["dense"].item())


def test_a_map_that_is_as_wide_as_the_descriptor_is_its_own_skip() -> None:
    network = head().network
    stage = network.bottleneck_layers[0][0]  # type: ignore[index]
    with torch.no_grad():
        stage.conv3.norm.weight.zero_()
    maps = batch_of(SPEC).maps["coarse"][:, 0]
    torch.testing.assert_close(stage(maps, (8, 8)), resize(maps, (8, 8)).relu())


def test_by_parts_it_learns_as_with_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's gradient where a map is its own skip, one map at a time."""
    gradients = []
    for at_work in (1, 1 << 30):
        monkeypatch.setattr("matchkit.heads.mixing.mixed.__kwdefaults__", {"at_work": at_work}, raising=False)
        network = head().network
        maps = batch_of(SPEC).maps
        network([maps["coarse"], maps["fine"]], (8, 8)).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for name, gradient in gradients[1].items():
        if gradient is not None:
            torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": 1.0}, "dropout must lie in 0..1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"timestep": 7}, "post-processor: no timestep 7; there are: 50"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        head(**changes)
    with pytest.raises(ConfigError, match="multiple of 128, not 100"):
        PostProcessorParams(projection=100)

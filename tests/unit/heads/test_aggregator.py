"""The aggregator against the golden values and parameter counts of the published network."""

import numpy as np
import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import BatchPair, PairBatch
from matchkit.core.similarity import resize
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.aggregator import AggregationNetwork, Aggregator, AggregatorParams

SD15_CHANNELS = [1280] * 6 + [640] * 3 + [320] * 3


def spec_of(*layers: LayerSpec, timesteps: tuple[int, ...] = (-1, 60)) -> FeatureSpec:
    return FeatureSpec("pixels", "none", layers, timesteps, (64, 64), "stretch", "fp32")


def fill(network: AggregationNetwork) -> None:
    """Hyperfeatures §4.7: parameters by alphabetical rank k, element i = 0.1 sin(0.37 i + k), norm weights + 1."""
    state = network.state_dict()
    for rank, name in enumerate(sorted(state)):
        values = 0.1 * np.sin(0.37 * np.arange(state[name].numel()) + rank) + name.endswith("norm.weight")
        state[name] = torch.from_numpy(values.astype(np.float32)).reshape(state[name].shape)
    network.load_state_dict(state)


def test_golden_output() -> None:
    network = AggregationNetwork([64, 32], timesteps=3, projection=128)
    fill(network)
    values = np.sin(0.011 * np.arange(2 * 3 * 96 * 8 * 8)).astype(np.float32)
    maps = torch.from_numpy(values).reshape(2, 3, 96, 8, 8)
    out = network([maps[:, :, :64], maps[:, :, 64:]], (8, 8)).detach()
    assert out.min() == 0
    assert out.mean().item() == pytest.approx(0.58325118, rel=1e-5)
    assert out[0, 0, 0, :4].tolist() == pytest.approx([0.2723956, 0.1107616, 0.1323050, 0.1682290], rel=1e-5)
    assert out[1, 127, 7, 4:].tolist() == pytest.approx([1.1492512, 1.2221682, 1.3085389, 1.2490617], rel=1e-5)


@pytest.mark.parametrize(("timesteps", "count"), [(1, 6_529_548), (11, 6_529_668), (50, 6_530_136)])
def test_parameter_count_of_the_published_network(timesteps: int, count: int) -> None:
    network = AggregationNetwork(SD15_CHANNELS, timesteps=timesteps, projection=384)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_state_dict_has_the_published_names() -> None:
    names = AggregationNetwork(SD15_CHANNELS, timesteps=11, projection=384).state_dict()
    kinds = ("shortcut", "conv1", "conv2", "conv3")
    parts = ("weight", "norm.weight", "norm.bias")
    expected = {f"bottleneck_layers.{i}.0.{kind}.{part}" for i in range(12) for kind in kinds for part in parts}
    assert set(names) == expected | {"mixing_weights"}
    assert len(names) == 145


def test_initial_weights_are_kaiming_fan_out() -> None:
    stage = AggregationNetwork([640], timesteps=1, projection=384).bottleneck_layers[0][0]  # type: ignore[index]
    spreads = [module.weight.std().item() for module in (stage.conv1, stage.conv2, stage.conv3, stage.shortcut)]
    assert spreads == pytest.approx([0.1443, 0.0481, 0.0722, 0.0722], rel=0.03)
    assert stage.conv3.norm.weight.eq(1).all()


def test_resizing_after_the_1x1_convolutions_equals_resizing_the_maps() -> None:
    """Hyperfeatures §4.6: the saving is exact up to rounding."""
    torch.manual_seed(0)
    network = AggregationNetwork([24], timesteps=2, projection=128)
    maps = torch.randn(3, 2, 24, 4, 4)
    resized = resize(maps.flatten(0, 1), (8, 8)).unflatten(0, (3, 2))
    torch.testing.assert_close(network([maps], (8, 8)), network([resized], (8, 8)), atol=1e-5, rtol=1e-5)


def test_mixing_is_a_softmax_over_layers_and_timesteps_timestep_major() -> None:
    network = AggregationNetwork([8, 8], timesteps=2, projection=128)
    maps = torch.randn(1, 2, 8, 4, 4)
    with torch.no_grad():
        network.mixing_weights[:] = torch.tensor([-60.0, -60.0, 0.0, -60.0])  # all weight on timestep 1, layer 0
    alone = network.bottleneck_layers[0][0](maps[:, 1], (4, 4))  # type: ignore[index]
    torch.testing.assert_close(network([maps, torch.randn(1, 2, 8, 4, 4)], (4, 4)), alone)


def test_equal_seeds_give_equal_heads_and_leave_the_global_generator_alone() -> None:
    spec = spec_of(LayerSpec("a", 8, (4, 4)))
    state = torch.random.get_rng_state()
    heads = [Aggregator(AggregatorParams(projection=128, seed=seed), spec=spec).state_dict() for seed in (0, 0, 1)]
    name = "bottleneck_layers.0.0.conv1.weight"
    assert torch.equal(heads[0][name], heads[1][name])
    assert not torch.equal(heads[0][name], heads[2][name])
    assert torch.equal(state, torch.random.get_rng_state())


def test_loss_falls_when_it_is_minimised() -> None:
    spec = spec_of(LayerSpec("a", 8, (4, 4)))
    head = Aggregator(AggregatorParams(projection=128), spec=spec)
    torch.manual_seed(0)
    cells = torch.tensor([0, 5, 10, 15])
    points = torch.stack([cells % 4, cells // 4], 1).float()
    pair = BatchPair(0, 1, points, points.flip(0), cells, cells.flip(0), 4.0)
    batch = PairBatch({"a": torch.randn(2, 2, 8, 4, 4)}, (pair,), ("a", "b"), (4, 4))
    optimiser = torch.optim.Adam(list(head.parameter_groups()), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = head.loss(batch)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


def test_a_projection_that_the_group_norm_cannot_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 128, not 100"):
        Aggregator(AggregatorParams(projection=100), spec=spec_of(LayerSpec("a", 8, (4, 4))))

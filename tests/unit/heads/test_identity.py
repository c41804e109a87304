"""The heads without weights."""

import pytest
import torch
from torch.nn import functional

from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.identity import Concatenate, ConcatenateParams, RawLayer, RawLayerParams

LAYERS = (LayerSpec("a", 3, (2, 2)), LayerSpec("b", 5, (4, 4)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (0, 90), (32, 32), "stretch", "fp32")


def maps(timesteps: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {x.name: torch.randn(2, timesteps, x.channels, *x.grid, generator=generator) for x in LAYERS}


def test_a_raw_layer_is_handed_on_as_it_is() -> None:
    head = RawLayer(RawLayerParams("b", 90), spec=SPEC)
    one = {"b": maps(1)["b"]}
    assert (head.layers, head.timesteps, head.grid) == (("b",), (90,), (4, 4))
    assert torch.equal(head.describe(one), one["b"][:, 0])


def test_a_raw_layer_tries_what_is_left_open() -> None:
    def tried(**params: object) -> list[tuple[str, int]]:
        candidates = RawLayer(RawLayerParams(**params), spec=SPEC).candidates()  # type: ignore[arg-type]
        return [(head.layers[0], head.timesteps[0]) for head in candidates]

    assert tried() == [("a", 0), ("a", 90), ("b", 0), ("b", 90)]
    assert tried(layer="a") == [("a", 0), ("a", 90)]
    assert tried(layer="b", timestep=90) == [("b", 90)]


def test_what_the_features_do_not_have_is_refused() -> None:
    with pytest.raises(StoreError, match="no layer 'c'"):
        RawLayer(RawLayerParams("c"), spec=SPEC)
    with pytest.raises(ConfigError, match="no timestep 7"):
        RawLayer(RawLayerParams("a", 7), spec=SPEC)


def test_the_concatenation_gives_every_map_the_same_say() -> None:
    head = Concatenate(ConcatenateParams(), spec=SPEC)
    given = maps(2)
    out = head.describe({name: values * (1000 if name == "a" else 1) for name, values in given.items()})
    assert out.shape == (2, 2 * 3 + 2 * 5, 4, 4)
    torch.testing.assert_close(out, head.describe(given))
    # the last block is layer b at the last timestep: its own grid, every cell at unit length
    torch.testing.assert_close(out[:, -5:], functional.normalize(given["b"][:, 1], dim=1))

"""The zero-shot fusion: its cosine, its widths and its blocks."""

import pytest
import torch
from torch.nn import functional

from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.similarity import resize
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.fusion import Fusion, FusionParams, side_by_side

PUBLISHED = (
    LayerSpec("sd.s5", 1280, (15, 15)),
    LayerSpec("sd.s4", 1280, (30, 30)),
    LayerSpec("sd.s3", 640, (60, 60)),
    LayerSpec("dino", 768, (60, 60)),
)
LAYERS = (LayerSpec("sd.s5", 6, (2, 2)), LayerSpec("sd.s3", 4, (4, 4)), LayerSpec("dino", 5, (4, 4)))


def spec_of(layers: tuple[LayerSpec, ...] = LAYERS) -> FeatureSpec:
    return FeatureSpec("geoaware", "none", layers, (50, 100), (64, 64), "letterbox", "fp32")


def fusion(**params: object) -> Fusion:
    return Fusion(FusionParams(**params), spec=spec_of())  # type: ignore[arg-type]


def maps_of(layers: tuple[LayerSpec, ...] = LAYERS) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {x.name: torch.randn(2, 1, x.channels, *x.grid, generator=draw) for x in layers}


def cosine(maps: torch.Tensor) -> torch.Tensor:
    """Of the two images' cells at the same place."""
    return functional.cosine_similarity(maps[:1], maps[1:], dim=1)


def raw(maps: dict[str, torch.Tensor], *names: str) -> torch.Tensor:
    return torch.cat([resize(maps[name][:, 0], (4, 4)) for name in names], dim=1)


def test_its_cosine_is_the_mean_of_diffusions_and_dinos() -> None:
    maps = maps_of()
    expected = (cosine(raw(maps, "sd.s5", "sd.s3")) + cosine(raw(maps, "dino"))) / 2
    torch.testing.assert_close(cosine(fusion().describe(maps)), expected)


def test_within_a_block_a_longer_layer_has_more_to_say() -> None:
    maps = maps_of()
    longer = maps | {"sd.s5": 1000 * maps["sd.s5"]}
    expected = (cosine(raw(maps, "sd.s5")) + cosine(raw(maps, "dino"))) / 2
    torch.testing.assert_close(cosine(fusion().describe(longer)), expected, rtol=1e-3, atol=1e-3)


def test_weights_are_lengths() -> None:
    maps = maps_of()
    out = fusion(weights=(3.0, 4.0)).describe(maps)
    torch.testing.assert_close(torch.linalg.vector_norm(out[:, :10], dim=1), torch.full((2, 4, 4), 3.0))
    expected = (9 * cosine(raw(maps, "sd.s5", "sd.s3")) + 16 * cosine(raw(maps, "dino"))) / 25
    torch.testing.assert_close(cosine(out), expected)


def test_published_widths() -> None:
    """Geoaware §1.4: 3200 channels of Stable Diffusion and 768 of DINOv2."""
    head = Fusion(FusionParams(), spec=spec_of(PUBLISHED))
    assert (head.channels, head.grid, head.timesteps) == (3968, (60, 60), (50,))
    out = head.describe({x.name: torch.rand(1, 1, x.channels, *x.grid) for x in PUBLISHED})
    assert out.shape == (1, 3968, 60, 60)
    lengths = torch.stack([torch.linalg.vector_norm(part, dim=1) for part in out.split([3200, 768], dim=1)])
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_blocks_by_name() -> None:
    assert fusion().layers == ("sd.s5", "sd.s3", "dino")
    named = fusion(blocks=(("dino", "sd.s3"), ("sd.s5",)), timestep=100)
    assert (named.layers, named.timesteps) == (("dino", "sd.s3", "sd.s5"), (100,))
    maps = maps_of()
    torch.testing.assert_close(
        named.describe(maps), side_by_side([raw(maps, "dino", "sd.s3"), raw(maps, "sd.s5")], (1.0, 1.0))
    )


def test_without_diffusion_all_layers_are_one_block() -> None:
    layers = (LayerSpec("up0.0", 3, (2, 2)), LayerSpec("up1.0", 4, (4, 4)))
    maps = maps_of(layers)
    out = Fusion(FusionParams(), spec=spec_of(layers)).describe(maps)
    torch.testing.assert_close(out, functional.normalize(raw(maps, "up0.0", "up1.0"), dim=1))


def test_a_cell_of_zeros_stays_zero() -> None:
    assert torch.equal(side_by_side([torch.zeros(1, 3, 2, 2)], (1.0,)), torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"weights": (1.0,)}, "fusion: weights must be 2, one for each part, not 1"),
        ({"weights": (1.0, -1.0)}, r"0 or more, and one of them above 0, not \[1.0, -1.0\]"),
        ({"weights": (0.0, 0.0)}, "one of them above 0"),
        ({"weights": (1.0, float("nan"))}, "0 or more"),
        ({"blocks": (("dino",), ())}, "a block takes one layer at least"),
        ({"blocks": (("dino",), ("sd.s3", "dino"))}, "a layer stands in one block"),
        ({"timestep": 7}, "fusion: no timestep 7; there are: 50, 100"),
    ],
)
def test_what_cannot_be_is_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fusion(**params)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(StoreError, match=r"no layer 'sd\.s9'"):
        fusion(blocks=(("sd.s9",),))

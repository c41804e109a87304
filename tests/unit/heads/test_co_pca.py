"""The components of a pair against an exact decomposition, and the fusion's order and lengths."""

import numpy as np
import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.similarity import resize
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.co_pca import CoPCA, CoPCAParams, principal_components

LAYERS = (
    LayerSpec("s5", 40, (3, 3)),
    LayerSpec("s4", 40, (6, 6)),
    LayerSpec("s3", 20, (12, 12)),
    LayerSpec("dino", 24, (12, 12)),
)
SPEC = FeatureSpec("geoaware", "none", LAYERS, (50, 100), (192, 192), "letterbox", "fp32")


def low_rank(shape: tuple[int, int, int, int], rank: int) -> torch.Tensor:
    """Maps (b,c,h,w) whose cells have a large mean and otherwise `rank` directions."""
    b, c, h, w = shape
    generator = torch.Generator().manual_seed(0)
    cells = torch.randn(b * h * w, rank, generator=generator) @ torch.randn(rank, c, generator=generator) + 5
    return cells.unflatten(0, (b, h, w)).movedim(-1, 1)


def pair_maps(rank: int = 8) -> dict[str, torch.Tensor]:
    return {layer.name: low_rank((2, layer.channels, *layer.grid), rank)[:, None] for layer in LAYERS}


def test_components_are_those_of_an_exact_decomposition() -> None:
    maps = low_rank((2, 40, 6, 6), 8) + 0.01 * torch.randn(2, 40, 6, 6, generator=torch.Generator().manual_seed(1))
    cells = maps.movedim(1, -1).reshape(-1, 40).numpy()
    centred = cells - cells.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    exact = np.abs(centred @ directions[:8].T)
    found = principal_components(maps, 8, seed=0).movedim(1, -1).reshape(-1, 8).numpy()
    np.testing.assert_allclose(np.abs(found), exact, atol=2e-3 * exact.max())


def test_no_more_components_than_cells_or_channels() -> None:
    maps = low_rank((2, 40, 3, 3), 30)
    components = principal_components(maps, 256, seed=0)
    assert components.shape == (2, 18, 3, 3)
    centred = maps - maps.mean((0, 2, 3), keepdim=True)
    lengths = torch.linalg.vector_norm(components, dim=1)  # all of the cells' variance is kept
    torch.testing.assert_close(lengths, torch.linalg.vector_norm(centred, dim=1), rtol=1e-4, atol=1e-4)


def test_the_finest_layer_comes_first_and_the_coarser_ones_are_resized_step_by_step() -> None:
    head = CoPCA(CoPCAParams(rank=8, layers=("s3", "s5", "s4"), beside=""), spec=SPEC)
    maps = pair_maps()
    s5, s4, s3 = (principal_components(maps[name][:, 0], 8, seed=0) for name in ("s5", "s4", "s3"))
    expected = torch.cat([s3, resize(s4, (12, 12)), resize(resize(s5, (6, 6)), (12, 12))], dim=1)
    torch.testing.assert_close(head.describe_pair(maps), expected)


def test_diffusion_and_dino_come_at_unit_length_beside_each_other() -> None:
    head = CoPCA(CoPCAParams(rank=8), spec=SPEC)
    assert (head.grid, head.layers, head.timesteps) == ((12, 12), ("s5", "s4", "s3", "dino"), (50,))
    maps = pair_maps()
    descriptors = head.describe_pair(maps)
    assert descriptors.shape == (2, 3 * 8 + 24, 12, 12)
    lengths = torch.linalg.vector_norm(descriptors.unflatten(1, (2, 24)), dim=2)
    torch.testing.assert_close(lengths, torch.ones(2, 2, 12, 12))
    dino = torch.nn.functional.normalize(maps["dino"][:, 0], dim=1)
    torch.testing.assert_close(descriptors[:, 24:], dino)


def test_published_widths() -> None:
    """Geoaware §1.5: three layers' 256 components and DINOv2's 768 channels."""
    layers = [LayerSpec(name, c, (g, g)) for name, c, g in (("s5", 1280, 15), ("s4", 1280, 30), ("s3", 640, 60))]
    spec = FeatureSpec(
        *("geoaware", "none", (*layers, LayerSpec("dino", 768, (60, 60)))), (100,), (960, 960), "letterbox", "fp16"
    )
    maps = {layer.name: torch.randn(2, 1, layer.channels, *layer.grid).half() for layer in spec.layers}
    assert CoPCA(CoPCAParams(), spec=spec).describe_pair(maps).shape == (2, 1536, 60, 60)


def test_a_pair_is_described_the_same_again_and_the_global_generator_is_left_alone() -> None:
    head, maps = CoPCA(CoPCAParams(rank=4), spec=SPEC), pair_maps(rank=20)
    state = torch.random.get_rng_state()
    first = head.describe_pair(maps)
    torch.rand(3)
    assert torch.equal(head.describe_pair(maps), first)
    torch.random.set_rng_state(state)
    head.describe_pair(maps)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_timestep_or_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="co-pca: no timestep 7; there are: 50, 100"):
        CoPCA(CoPCAParams(timestep=7), spec=SPEC)
    with pytest.raises(ConfigError, match="one layer and one component"):
        CoPCA(CoPCAParams(rank=0), spec=SPEC)
    assert CoPCA(CoPCAParams(timestep=100), spec=SPEC).timesteps == (100,)


def test_weights_of_layers_and_of_dino() -> None:
    maps = pair_maps()
    plain = CoPCA(CoPCAParams(rank=8), spec=SPEC).describe_pair(maps)
    ones = CoPCA(CoPCAParams(rank=8, weights=(1.0, 1.0, 1.0, 1.0)), spec=SPEC).describe_pair(maps)
    assert torch.equal(ones, plain)
    head = CoPCA(CoPCAParams(rank=8, weights=(3.0, 0.0, 0.0, 0.5)), spec=SPEC)  # of s5, s4, s3, dino
    out = head.describe_pair(maps)
    assert torch.equal(out[:, :16], torch.zeros_like(out[:, :16]))
    s5 = resize(resize(principal_components(maps["s5"][:, 0], 8, seed=0), (6, 6)), (12, 12))
    torch.testing.assert_close(out[:, 16:24], torch.nn.functional.normalize(s5, dim=1))
    torch.testing.assert_close(out[:, 24:], plain[:, 24:] / 2)
    with pytest.raises(ConfigError, match="co-pca: weights must be 4, one for each part, not 2"):
        CoPCA(CoPCAParams(weights=(1.0, 1.0)), spec=SPEC)

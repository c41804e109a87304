"""The kernels of a UNet's transformer blocks: the same maps, or a refusal that says what to take."""

import importlib.util

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.extract.backbones.sd_inversion import SDInversion, SDInversionParams
from matchkit.extract.run import feature_maps

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # of torch's own compiler
CPU = torch.device("cpu")
SHORT = {"steps": 10, "keys": (9, 8), "layers": ("up2.1", "up3.2"), "dtype": "fp32"}


def inversion(**changes: object) -> SDInversion:
    return SDInversion(SDInversionParams(**(SHORT | changes)), device=CPU)  # type: ignore[arg-type]


@pytest.mark.slow
def test_compiled_blocks_give_the_same_maps_in_threads_too(photos: list) -> None:  # type: ignore[type-arg]
    plain, compiled = inversion(), inversion(kernels="compiled")
    found = [list(feature_maps(backbone, photos[:4], batch=2, threads=2, decoders=1)) for backbone in (plain, compiled)]
    for one, other in zip(*found, strict=True):
        for layer, maps in one.maps.items():
            scale = maps.abs().max().item()
            torch.testing.assert_close(other.maps[layer], maps, rtol=0, atol=1e-4 * scale)


def test_kernels_are_part_of_the_spec_unless_they_are_the_usual_ones() -> None:
    assert "kernels" not in inversion().spec.options
    compiled = inversion(kernels="compiled").spec
    assert compiled.options["kernels"] == "compiled"
    assert compiled.digest() != inversion().spec.digest()


@pytest.mark.skipif(torch.cuda.is_available() and importlib.util.find_spec("xformers") is not None, reason="it can")
def test_xformers_is_refused_where_it_cannot_run() -> None:
    with pytest.raises(ConfigError, match=r"kernels xformers cannot run here: .*Take kernels=torch"):
        inversion(kernels="xformers")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_memory_is_channels_last_where_speed_counts_more_than_the_last_bits(precision: str) -> None:
    weights = inversion(precision=precision)._network.unet.mid_block.resnets[0].conv1.weight
    assert weights.is_contiguous(memory_format=torch.channels_last) == (precision == "bf16")

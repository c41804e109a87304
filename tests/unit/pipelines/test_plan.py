"""What an extraction will cost is what it then costs."""

from pathlib import Path

import pytest

from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.pipelines.extract import extract
from matchkit.pipelines.plan import bytes_an_image, calls_an_image, plan

SD15_AT_512 = [(1280, 8)] * 3 + [(1280, 16)] * 3 + [(640, 32)] * 3 + [(320, 64)] * 3
ELEVEN = (-1, 60, 160, 260, 360, 460, 560, 660, 760, 860, 960)


def sd15(timesteps: tuple[int, ...], steps: int) -> FeatureSpec:
    layers = tuple(LayerSpec(f"up{n // 3}.{n % 3}", c, (side, side)) for n, (c, side) in enumerate(SD15_AT_512))
    return FeatureSpec("sd-inversion", "x", layers, timesteps, (512, 512), "stretch", "fp16", options={"steps": steps})


def test_bytes_of_the_published_setting() -> None:
    """Hyperfeatures §8: native resolution in fp16, 14.25 MB for one timestep and 156.8 MB for eleven."""
    assert bytes_an_image(sd15((-1,), 50)) == 2 * 7_127_040
    assert bytes_an_image(sd15(ELEVEN, 50)) == pytest.approx(156.8e6, rel=1e-3)


@pytest.mark.parametrize(
    ("timesteps", "steps", "calls"),
    [(ELEVEN, 50, 50), ((-1,), 50, 1), ((0,), 50, 2), ((-1, 160), 50, 10), ((-1,), 1, 1)],
)
def test_calls_of_the_network(timesteps: tuple[int, ...], steps: int, calls: int) -> None:
    assert calls_an_image(sd15(timesteps, steps)) == calls


def test_the_plan_is_kept(spair_tree: Path, tmp_path: Path) -> None:
    settings = ("input_size=32", "cell=4")
    planned = plan("spair", "pixels", root=spair_tree, settings=settings)
    extract("spair", "pixels", root=spair_tree, settings=settings, out=tmp_path / "s.zarr", device="cpu")
    shards = list((tmp_path / "s.zarr" / "rgb").glob("c.*"))
    assert len(shards) == planned.images == 3
    assert sum(shard.stat().st_size - 20 for shard in shards) == planned.bytes_in_all

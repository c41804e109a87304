"""What an extraction will cost is what it then costs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from matchkit.cache.layout import image_bytes
from matchkit.core.errors import SpecMismatchError
from matchkit.core.spec import FeatureSpec, LayerSpec, Scalar
from matchkit.extract.backbones.pixels import Pixels
from matchkit.pipelines.caches import du
from matchkit.pipelines.extract import extract
from matchkit.pipelines.plan import calls_an_image, plan

SD15_AT_512 = [(1280, 8)] * 3 + [(1280, 16)] * 3 + [(640, 32)] * 3 + [(320, 64)] * 3
ELEVEN = (-1, 60, 160, 260, 360, 460, 560, 660, 760, 860, 960)


def sd15(timesteps: tuple[int, ...], steps: int) -> FeatureSpec:
    layers = tuple(LayerSpec(f"up{n // 3}.{n % 3}", c, (side, side)) for n, (c, side) in enumerate(SD15_AT_512))
    return FeatureSpec("sd-inversion", "x", layers, timesteps, (512, 512), "stretch", "fp16", options={"steps": steps})


def test_bytes_of_the_published_setting() -> None:
    """Hyperfeatures §8: native resolution in fp16, 14.25 MB for one timestep and 156.8 MB for eleven."""
    assert image_bytes(sd15((-1,), 50)) == 2 * 7_127_040
    assert image_bytes(sd15(ELEVEN, 50)) == pytest.approx(156.8e6, rel=1e-3)


@pytest.mark.parametrize(
    ("timesteps", "options", "calls"),
    [
        (ELEVEN, {"steps": 50}, 50),
        ((-1,), {"steps": 50}, 1),
        ((0,), {"steps": 50}, 2),
        ((-1, 160), {"steps": 50}, 10),
        ((-1,), {"steps": 1}, 1),
        ((261,), {"ensemble": 8}, 8),
        ((261, 50), {"ensemble": 2}, 4),
        ((50,), {"crop": 512}, 1),
        ((50,), {"crop": 300}, 4),
        ((0,), {}, 1),
    ],
)
def test_calls_of_the_network(timesteps: tuple[int, ...], options: dict[str, Scalar], calls: int) -> None:
    assert calls_an_image(replace(sd15(timesteps, 50), options=options)) == calls


def test_the_plan_is_kept(spair_tree: Path, tmp_path: Path) -> None:
    settings = ("input_size=1024", "cell=2")  # from a mebibyte on, an image has a shard file of its own
    planned = plan("spair", "pixels", root=spair_tree, settings=settings, out=tmp_path / "s.zarr", probe=False)
    assert not (tmp_path / "s.zarr").exists()
    extract("spair", "pixels", root=spair_tree, settings=settings, out=tmp_path / "s.zarr", device="cpu")
    shards = list((tmp_path / "s.zarr" / "rgb").glob("c.*"))
    assert len(shards) == planned.images == planned.missing == 3
    assert sum(shard.stat().st_size - 20 for shard in shards) == planned.bytes_in_all


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
@pytest.mark.parametrize("size", [("input_size=32",), ("input_size=1024", "cell=2")])
def test_the_disk_takes_what_was_planned(
    tmp_path: Path, draw: Callable[[tuple[int, int], int], Image.Image], dtype: str, size: tuple[str, ...]
) -> None:
    """Of a shard file for sixteen images all sixteen are counted, those that are not there yet as holes."""
    out, settings = tmp_path / "s.zarr", (*size, f"dtype={dtype}")
    (tmp_path / "photos").mkdir()
    for number in range(16):
        draw((20, 30), number).save(tmp_path / "photos" / f"{number}.png")
    planned = plan("folder", "pixels", root=tmp_path / "photos", settings=settings, out=out, probe=False)
    extract("folder", "pixels", root=tmp_path / "photos", settings=settings, out=out, device="cpu")
    used = {part.name: part.bytes for part in du(str(out)).parts}
    described = 2 * 2048  # an array's metadata, and that of its scales
    indices = 16 * 2 * 20  # a checksum, an offset and a length for every chunk
    assert 0 < used.pop("rgb") - planned.bytes_in_all <= described + indices
    assert used.keys() == {"ledger", "metadata"}
    assert sum(used.values()) < 100_000  # one chunk of the ledger does for 4,096 images


@pytest.mark.parametrize(("dtype", "bytes_a_cell"), [("fp32", 12), ("fp16", 6), ("int8", 5), ("bf16", 6)])
def test_bytes_are_those_at_rest(spair_tree: Path, tmp_path: Path, dtype: str, bytes_a_cell: int) -> None:
    settings = ("input_size=32", f"dtype={dtype}")
    planned = plan("spair", "pixels", root=spair_tree, settings=settings, out=tmp_path / "s.zarr", probe=False)
    assert planned.bytes_an_image == 16 * bytes_a_cell
    assert planned.bytes_in_all == 3 * planned.bytes_an_image
    assert planned.bytes_free is not None
    assert planned.probe is None


def test_only_what_is_missing_is_counted(spair_tree: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "s.zarr", ("input_size=32",)
    extract("spair", "pixels", root=spair_tree, settings=settings, out=out, device="cpu", limit=2)
    planned = plan("spair", "pixels", root=spair_tree, settings=settings, out=out)
    assert (planned.images, planned.missing) == (3, 1)
    assert planned.probe is not None
    assert planned.probe.images == 1
    assert (planned.probe.network, planned.probe.flops_an_image) == ("none", 0)
    both = plan("spair", "pixels", root=spair_tree, settings=settings, out=out, poses=("hflip",), probe=False)
    assert (both.images, both.missing) == (6, 4)
    extract("spair", "pixels", root=spair_tree, settings=settings, out=out, device="cpu")
    done = plan("spair", "pixels", root=spair_tree, settings=settings, out=out)
    assert (done.missing, done.bytes_in_all, done.probe) == (0, 0, None)


def test_a_store_of_another_spec_is_refused_before_the_plan(spair_tree: Path, tmp_path: Path) -> None:
    extract("spair", "pixels", root=spair_tree, settings=("input_size=32",), out=tmp_path / "s.zarr", device="cpu")
    with pytest.raises(SpecMismatchError, match="fit: letterbox, not stretch"):
        plan("spair", "pixels", root=spair_tree, settings=("input_size=32", "fit=letterbox"), out=tmp_path / "s.zarr")


def test_the_arithmetic_is_that_of_the_network(spair_tree: Path, dinov2_folder: Path, tmp_path: Path) -> None:
    planned = plan(
        "spair", "dinov2", root=spair_tree, weights=str(dinov2_folder), out=tmp_path / "s.zarr", device="cpu"
    )
    assert planned.probe is not None
    assert (planned.probe.network, planned.calls_an_image, planned.probe.device) == ("Dinov2Model", 1, "cpu")
    tokens, width, blocks = 17, 16, 3  # a grid of 4 x 4, and the class
    patches = 2 * 16 * width * 3 * 8 * 8
    attention = 2 * 2 * tokens * tokens * width
    expected = patches + blocks * (2 * tokens * 12 * width**2 + attention)
    assert planned.probe.flops_an_image == expected
    assert planned.probe.seconds_in_all == pytest.approx(3 * planned.probe.seconds_an_image)


def test_the_probe_says_how_long_it_takes(spair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Pixels.__call__

    def slow(backbone: Pixels, images: torch.Tensor, ids: Sequence[str]) -> dict[str, torch.Tensor]:
        time.sleep(0.1)
        return plain(backbone, images, ids)

    monkeypatch.setattr(Pixels, "__call__", slow)
    for threads, batch in ((1, 1), (1, 3), (2, 1), (4, 1), (2, 2)):
        settings = ("input_size=32", f"threads={threads}", f"batch={batch}")
        planned = plan("spair", "pixels", root=spair_tree, settings=settings, out=tmp_path / "s.zarr", device="cpu")
        assert planned.probe is not None
        assert planned.probe.images == min(3, min(threads, 2) * batch)
        assert planned.probe.seconds_an_image == pytest.approx(0.1 / batch / threads, rel=0.5)

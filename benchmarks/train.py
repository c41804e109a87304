"""A training step of the aggregator: with the inversion on the fly, from the store, and from memory, in one run.

    PYTHONSAFEPATH=1 python benchmarks/train.py [--size embedded|published]

On the fly is what the field does: every step inverts both images of a pair, 50 calls of the UNet for 11 kept timesteps.
`embedded` runs the pipeline that ships with the package and the toy's aggregator. `published` has Stable Diffusion
1.5's shapes with random weights, on whose values no time depends, at 512 pixels, and the published aggregator; of the
50 calls, which are all alike, two are timed. Both heads train on the same maps, so their losses are the same.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from matchkit.cache.pairs import CachedPairs, MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.interfaces import PairBatch
from matchkit.core.records import ImageRecord, Pair
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.extract.backbones.sd_inversion import SDInversion, SDInversionParams
from matchkit.heads.aggregator import Aggregator, AggregatorParams

KEYS = (49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0)
CALLS = 50
KEYPOINTS = 10
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setting:
    """What is compared: features' spec, the maps of an image, seconds of one inversion of a pair, the head's width."""

    spec: FeatureSpec
    maps: Callable[[str], Mapping[str, torch.Tensor]]
    inversion: Callable[[], float]
    projection: int
    images: int
    steps: int


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def embedded() -> Setting:
    backbone = SDInversion(SDInversionParams(steps=CALLS, keys=KEYS), device=CPU)
    side = backbone.spec.input_size[0]
    photographs = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    held = backbone(photographs, ["a", "b"])
    noise = torch.Generator().manual_seed(1)

    def maps(image_id: str) -> Mapping[str, torch.Tensor]:
        return {name: values[0] * (1 + 0.1 * torch.randn(1, generator=noise).half()) for name, values in held.items()}

    def inversion() -> float:
        return min(seconds(lambda: backbone(photographs, ["a", "b"])) for _ in range(3))

    return Setting(backbone.spec, maps, inversion, projection=128, images=40, steps=12)


def published() -> Setting:
    layers = tuple(
        LayerSpec(f"up{block}.{number}", channels, (side, side))
        for block, channels, side in ((0, 1280, 8), (1, 1280, 16), (2, 640, 32), (3, 320, 64))
        for number in range(3)
    )
    timesteps = (-1, *(20 * (48 - key) for key in KEYS[1:]))
    spec = FeatureSpec("sd-inversion", "random", layers, timesteps, (512, 512), "stretch", "fp16")
    noise = torch.Generator().manual_seed(0)

    def maps(image_id: str) -> Mapping[str, torch.Tensor]:
        shapes = {layer.name: (len(timesteps), *layer.grid, layer.channels) for layer in layers}
        return {name: torch.randn(shape, generator=noise).half().permute(0, 3, 1, 2) for name, shape in shapes.items()}

    return Setting(spec, maps, stable_diffusion, projection=384, images=3, steps=3)


@torch.inference_mode()
def stable_diffusion() -> float:
    """Seconds to invert a pair of images with networks of Stable Diffusion 1.5's shapes."""
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8
    ).eval()
    latents, states = torch.randn(2, 4, 64, 64), torch.randn(2, 77, 768)
    call = min(seconds(lambda: unet(latents, torch.full((2,), 20.0), encoder_hidden_states=states)) for _ in range(2))
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    ).eval()
    encoding = seconds(lambda: vae.encode(torch.randn(2, 3, 512, 512)))
    click.echo(f"  one call of the UNet for both images {call:.2f} s, the VAE {encoding:.2f} s")
    return CALLS * call + encoding


def fill(store: FeatureStore, setting: Setting) -> None:
    for image_id in store.missing(str(number) for number in range(setting.images)):
        store.write(image_id, setting.maps(image_id))
    store.finalize()


def pairs(setting: Setting) -> tuple[list[Pair], dict[str, ImageRecord]]:
    size, generator = setting.spec.input_size, np.random.default_rng(0)
    names = [str(number) for number in range(setting.images)]
    images = {name: ImageRecord(name, Path(name), size) for name in names}
    made = []
    for number, (source, target) in enumerate(zip(names, names[1:] + names[:1], strict=True)):
        points = generator.uniform(0, size[0] - 1, (2, KEYPOINTS, 2)).astype(np.float32)
        ids = tuple(str(keypoint) for keypoint in range(KEYPOINTS))
        made.append(Pair(str(number), source, target, "", points[0], points[1], ids))
    return made, images


def steps(head: Aggregator, batches: Iterator[PairBatch], count: int) -> float:
    """The median seconds of a training step, reading included."""
    optimiser = torch.optim.AdamW(list(head.parameter_groups()), lr=1e-3)
    times = []
    for _ in range(count + 1):
        start = time.perf_counter()
        loss = head.loss(next(batches))["total"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def compare(name: str, setting: Setting, folder: Path) -> None:
    click.echo(f"{name}: {len(setting.spec.layers)} layers x {len(setting.spec.timesteps)} timesteps")
    with FeatureStore.create(folder / f"{name}.zarr", setting.spec, [str(n) for n in range(setting.images)]) as store:
        fill(store, setting)
        size = sum(values.nbytes for values in store.buffers().values())
        made, images = pairs(setting)
        took = {}
        for where, limit in {"from the store": 0, "from memory": size * setting.images}.items():
            head = Aggregator(AggregatorParams(projection=setting.projection), spec=setting.spec)
            cache = MapCache(store, layers=head.layers, timesteps=head.timesteps, limit=limit)
            cached = CachedPairs(cache, made, images, grid=head.grid)
            if limit:
                cache.batch(list(images))
            batches = cached.batches(size=1, seed=0)
            took[where] = steps(head, batches, setting.steps)
            batches.close()
    fly = setting.inversion() + took["from memory"]
    click.echo(f"  a step on the fly {fly:8.2f} s")
    click.echo(f"  from the store    {took['from the store']:8.3f} s ({fly / took['from the store']:.0f} times faster)")
    ratio = took["from the store"] / took["from memory"]
    click.echo(f"  from memory       {took['from memory']:8.3f} s (the store takes {ratio:.2f} times as long)")


@click.command()
@click.option("--size", type=click.Choice(["embedded", "published", "both"]), default="both", show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where to write (0.5 GB). [default: a temporary folder]"
)
def main(size: str, threads: int, folder: Path | None) -> None:
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        if size != "published":
            compare("embedded", embedded(), Path(scratch))
        if size != "embedded":
            compare("published", published(), Path(scratch))


if __name__ == "__main__":
    main()

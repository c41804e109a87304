"""Extraction as `matchkit extract` does it and as the published code works, of the same weights in one run.

    PYTHONSAFEPATH=1 python benchmarks/extract.py [--preset hyperfeatures] [--weights FOLDER | --random sd15]

The published ways are told, and written, in `published.py`. Both have the same cores, the published one with all cores
on every operation or on one core alone, whichever is faster, and the same type of numbers. `alone` is each part of
matchkit's way by itself; `together` is the whole run into the store, every image synced to the disk. The ceiling is a
matrix product of the same type on the same cores; a multiplication with its addition counts as two operations. Rows are
printed as Markdown, for docs/performance.md. What the test list takes at published sizes is counted by `spair_list.py`.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from runpy import run_path
from typing import Any

import click
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from matchkit.cache.store import FeatureStore
from matchkit.core.device import choose_device
from matchkit.core.records import ImageRecord
from matchkit.extract.backbones import BACKBONES
from matchkit.extract.backbones.precision import PRECISIONS
from matchkit.extract.backbones.stable_diffusion import PARTS
from matchkit.extract.backbones.weights import EMBEDDED, locate
from matchkit.extract.datasets import open_dataset
from matchkit.extract.presets import PRESETS
from matchkit.extract.run import inputs
from matchkit.pipelines.fill import fill
from matchkit.pipelines.plan import measure_arithmetic
from matchkit.pipelines.prepare import ExtractParams, Prepared, cores
from matchkit.pipelines.tally import Tally

PAIRS, IMAGES = 12_234, 480
"""Of SPair-71k's test list; its images are counted where the dataset is given."""
PHOTOGRAPH = (500, 375)
SIZES = ("input_size", "canvas", "crop", "dino_canvas")
SD15: Mapping[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
VAE: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
BESIDE = run_path(str(Path(__file__).with_name("published.py")))
"""Benchmarks are scripts: none of them can be imported."""
HABITS, Published, Run = (BESIDE[name] for name in ("HABITS", "Published", "Run"))


class Matchkit:
    """matchkit's way: its parts alone, and the whole run."""

    def __init__(self, run: Run) -> None:
        self._run, self._records, self._prepared = run, run.records, run.prepared
        self._backbone, self._size = run.prepared.backbone, run.prepared.params.batch
        self._options = {"initializer": torch.set_num_threads, "initargs": (1,)}

    def decode(self) -> list[Any]:
        with ThreadPoolExecutor(self._prepared.decoders, **self._options) as pool:
            return list(pool.map(lambda record: inputs(record, self._backbone.canvases), self._records))

    def compute(self, decoded: Sequence[Any]) -> Mapping[str, torch.Tensor]:
        """The maps of the last batch; each thread takes a batch at a time."""

        def maps(first: int) -> dict[str, torch.Tensor]:
            images, *others = map(torch.stack, zip(*decoded[first : first + self._size], strict=True))
            ids = [record.id for record in self._records[first : first + self._size]]
            return {name: values.cpu() for name, values in self._backbone(images, ids, *others).items()}

        with ThreadPoolExecutor(self._prepared.threads, **self._options) as pool:
            return list(pool.map(maps, range(0, len(decoded), self._size)))[-1]

    def write(self, maps: Mapping[str, torch.Tensor]) -> None:
        """Writes them for every image."""
        with self._store() as store:
            for record in self._records:
                store.write(record.id, {name: values[-1] for name, values in maps.items()})
            store.finalize()

    def together(self) -> None:
        told = {"batch": self._size, "threads": self._prepared.threads, "decoders": self._prepared.decoders}
        with self._store() as store, Tally(images=len(self._records), bytes_an_image=0, shown=False) as tally:
            fill(store, self._backbone, self._records, **told, tally=tally)
            store.finalize()

    def _store(self) -> FeatureStore:
        where = self._run.scratch / "maps.zarr"
        shutil.rmtree(where, ignore_errors=True)
        return FeatureStore.create(where, self._backbone.spec, [record.id for record in self._records])


@dataclass(frozen=True)
class Took:
    """Seconds an image; of the published way, seconds a pair or an image.

    `processor` are those of all cores together, the published way's on one thread, which has no core wait for another.
    """

    published: float
    published_processor: float
    decode: float
    compute: float
    write: float
    together: float
    processor: float


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def both_seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Of the clock, and of the processor's cores together, on which other processes tell little."""
    start = time.process_time()
    wall = seconds(call)
    return wall, time.process_time() - start


def measure(run: Run, *, rounds: int) -> Took:
    """The parts once, then both ways in turns; the best of each, whatever else the machine does meanwhile."""
    ours, theirs, records = Matchkit(run), Published(run), run.records
    decoded: list[Any] = []
    maps: dict[str, torch.Tensor] = {}
    decode = seconds(lambda: decoded.extend(ours.decode()))
    compute = seconds(lambda: maps.update(ours.compute(decoded)))
    write = seconds(lambda: ours.write(maps))
    call = partial(theirs, records[:2]) if HABITS[run.preset].of_pairs else partial(theirs.into_file, records[0])
    call()
    whole, each = [], []
    for number in range(2 * rounds):
        torch.set_num_threads(1 if number % 2 else cores())
        each += [both_seconds(call) for _ in range(2)]
        whole += [both_seconds(ours.together)] if number % 2 else []
    published, mine = np.min(each, axis=0), np.min(whole, axis=0)
    parts = (decode, compute, write, *mine)
    return Took(*published, *(total / len(records) for total in parts))


def ceiling(run: Run) -> float:
    """Operations a second of a product of large matrices."""
    device, side = run.prepared.device, 2048 if run.prepared.device.type == "cpu" else 8192
    matrix = torch.randn(side, side, device=device, dtype=PRECISIONS[run.params["precision"]])

    def multiply() -> None:
        (matrix @ matrix)[0, 0].item()  # waits for a GPU

    return 2 * side**3 / min(seconds(multiply) for _ in range(5))


def photographs(folder: Path, count: int) -> list[ImageRecord]:
    """JPEGs of SPair-71k's size, as smooth as photographs are."""
    generator, records = np.random.default_rng(0), []
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        path = folder / f"{number}.jpg"
        coarse.resize(PHOTOGRAPH, Image.Resampling.BICUBIC).save(path, quality=90)
        records.append(ImageRecord(f"object/{number}", path, PHOTOGRAPH))
    return records


def random_pipeline(folder: Path, embedded: Path, dtype: torch.dtype) -> Path:
    """A folder with networks of Stable Diffusion 1.5's shapes and random weights, on whose values no time depends."""
    text = CLIPTextConfig.from_pretrained(embedded / "text_encoder")
    text.hidden_size = SD15["cross_attention_dim"]
    for part in ("tokenizer", "scheduler"):
        shutil.copytree(embedded / part, folder / part)
    shutil.copy(embedded / "model_index.json", folder)
    CLIPTextModel(text).to(dtype).save_pretrained(folder / "text_encoder")
    AutoencoderKL(**VAE).to(dtype).save_pretrained(folder / "vae")
    UNet2DConditionModel(**SD15).to(dtype).save_pretrained(folder / "unet")
    return folder


def prepare(preset: str, weights: Path | None, *, device: str, batch: int, precision: str) -> Prepared:
    """A preset's backbone, with no prompt; embedded weights keep their own sizes, and DINOv2 is the embedded one."""
    params = PRESETS.params(preset) | {"weights": str(weights or EMBEDDED), "precision": precision, "prompt": ""}
    left_out = ("backbone", "dino_weights", *(() if weights else SIZES))
    kept = {key: value for key, value in params.items() if key not in left_out}
    where = choose_device(device)
    backbone = BACKBONES.build(params["backbone"], kept, where=preset, device=where)
    return Prepared(backbone, params["backbone"], kept, ExtractParams(batch=batch), where)


def report(run: Run, took: Took, *, pairs: int, images: int) -> tuple[str, str]:
    """The rows of both tables."""
    habit, rate = HABITS[run.preset], ceiling(run)
    _, calls, flop = measure_arithmetic(run.prepared.backbone, run.records[0])
    of = 2 if habit.of_pairs else 1
    alone = (took.decode, took.compute, took.write)
    parts = " + ".join(f"{1e3 * part:.1f} ({part / sum(alone):.0%})" for part in alone)
    speed = (
        f"| {run.preset} | {took.published:.3f} {'a pair' if habit.of_pairs else 'an image'} | "
        f"{of / took.published:.2f} | {1 / took.together:.2f} | {took.published / of / took.together:.1f} | "
        f"{took.published_processor / of:.3f} | {took.processor:.3f} | {parts} | "
        f"{1e3 * took.together:.1f} | {flop / took.together / 1e9:,.0f} of {rate / 1e9:,.0f} "
        f"({flop / took.together / rate:.0%}) |"
    )
    computed = 2 * pairs if habit.of_pairs else images
    theirs, mine = computed * took.published / of / 3600, images * took.together / 3600
    whole = (
        f"| {run.preset} | {computed:,} | {computed * run.calls:,} | {theirs:.2f} | {images:,} | "
        f"{images * calls:,} | {mine:.3f} | {theirs / mine:.0f} |"
    )
    return speed, whole


def test_list(root: Path | None) -> tuple[int, int]:
    """Pairs and distinct images of SPair-71k's test list."""
    if root is None:
        return PAIRS, IMAGES
    pairs = open_dataset("spair", root).pairs("test")
    return len(pairs), len({image for pair in pairs for image in (pair.source, pair.target)})


@click.command()
@click.option("--preset", "presets", multiple=True, type=click.Choice(list(HABITS)), help="[default: all]")
@click.option("--weights", type=click.Path(exists=True, path_type=Path), help="A diffusers folder. [default: embedded]")
@click.option("--random", "shapes", type=click.Choice(["sd15"]), help="Random weights of these shapes instead.")
@click.option("--root", type=click.Path(exists=True, path_type=Path), help="SPair-71k's tree, to count its test list.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", type=click.Choice(list(PRECISIONS)), default="fp32", show_default=True)
@click.option("--images", default=40, show_default=True, help="For matchkit's way.")
@click.option("--batch", default=20, show_default=True)
@click.option("--rounds", default=2, show_default=True)
def main(
    presets: tuple[str, ...],
    weights: Path | None,
    shapes: str | None,
    root: Path | None,
    rounds: int,
    images: int,
    **how: Any,  # noqa: ANN401 - device, precision and batch
) -> None:
    pairs, distinct = test_list(root)
    embedded = locate(EMBEDDED, embedded="stable-diffusion", marker="model_index.json", parts=PARTS)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        records = photographs(scratch, images)
        if shapes:
            weights = random_pipeline(scratch / "weights", embedded, PRECISIONS[how["precision"]])
        for preset in presets or HABITS:
            ready = prepare(preset, weights, **how)
            run = Run(preset, ready.values, ready, weights or embedded, records, scratch)
            rows.append(report(run, measure(run, rounds=rounds), pairs=pairs, images=distinct))
            click.echo(rows[-1][0])
    click.echo(f"test list: {pairs:,} pairs of {distinct:,} images")
    click.echo("\n".join(whole for _, whole in rows))


if __name__ == "__main__":
    main()

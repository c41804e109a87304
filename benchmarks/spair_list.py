"""SPair-71k's test list at published sizes, counted: calls of the UNet and PFLOP, the published way and matchkit's.

    PYTHONSAFEPATH=1 python benchmarks/spair_list.py [--root data/spair]

Nothing is computed: the networks have Stable Diffusion's shapes and no weights. The published ways are told in
`published.py`. DINOv2 and text encoders, alike in both ways, are left out; a multiplication with its addition counts as
two operations. Rows are printed as Markdown, for docs/performance.md.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from runpy import run_path
from typing import Any

import click
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from matchkit.extract.backbones import BACKBONES
from matchkit.extract.backbones.geoaware import TAPS
from matchkit.extract.backbones.taps import DecoderTaps, chosen_layers
from matchkit.extract.datasets import open_dataset
from matchkit.extract.presets import PRESETS, SD15, SD21
from matchkit.pipelines.plan import calls_an_image

HABITS = run_path(str(Path(__file__).with_name("published.py")))["HABITS"]
PAIRS, IMAGES = 12_234, 480
"""Of the test list; counted where the dataset is given."""
UNETS: Mapping[str, Mapping[str, Any]] = {
    SD15: {"cross_attention_dim": 768, "attention_head_dim": 8},
    SD21: {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
}
VAE: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
SIZES = ("weights", "dino_weights", "input_size", "canvas", "crop", "dino_canvas", "unet")


def flop(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


@torch.no_grad()
def of_parts(params: Mapping[str, Any]) -> dict[str, int]:
    """FLOP of a whole call of the UNet, of one cut at its last wanted map, and of the VAE's two halves."""
    side, shapes = int(params.get("crop") or params["input_size"]), UNETS[params["weights"]]
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**shapes), AutoencoderKL(**VAE)
        image, latent = torch.empty(1, 3, side, side), torch.empty(1, 4, side // 8, side // 8)
        states, time = torch.empty(1, 77, shapes["cross_attention_dim"]), torch.zeros(1)
    tapped = TAPS.values() if params["backbone"] == "geoaware" else params.get("layers", ())
    taps = DecoderTaps(unet, chosen_layers(unet, tuple(tapped)), hook=params.get("hook", "sublayer"))

    def call() -> None:
        unet(latent, time, encoder_hidden_states=states)

    def cut() -> None:
        with taps.recording(), taps.stopping():
            call()

    parts = {"whole": call, "cut": cut, "encode": lambda: vae.encode(image), "decode": lambda: vae.decode(latent)}
    return {name: flop(part) for name, part in parts.items()}


def an_image(preset: str) -> tuple[int, int, int, int]:
    """Calls of the UNet and FLOP of one image: the published way, then matchkit's."""
    params, habit = PRESETS.params(preset), HABITS[preset]
    parts = of_parts(params)
    kept = {key: value for key, value in params.items() if key not in (*SIZES, "backbone")}
    embedded = BACKBONES.build(params["backbone"], kept, where=preset, device=torch.device("cpu"))
    mine = calls_an_image(embedded.spec)
    theirs = int(params.get("steps", mine))
    crops = mine if params["backbone"] == "geoaware" else 1
    copies = int(params.get("ensemble", 1)) if habit.encodes_copies else 1
    published = (
        crops * copies * parts["encode"]
        + theirs * parts["cut" if habit.stops else "whole"]
        + (crops * parts["decode"] if habit.decodes else 0)
    )
    cut = 1 if params["backbone"] == "sd-inversion" else mine  # an inversion goes on from all calls but the last
    return theirs, published, mine, crops * parts["encode"] + (mine - cut) * parts["whole"] + cut * parts["cut"]


def row(preset: str, *, pairs: int, images: int) -> str:
    calls, published, mine, matchkit = an_image(preset)
    computed = 2 * pairs if HABITS[preset].of_pairs else images
    return (
        f"| {preset} | {computed:,} x {calls} | {computed * calls:,} | {computed * published / 1e15:,.1f} | "
        f"{images} x {mine} | {images * mine:,} | {images * matchkit / 1e15:,.1f} | "
        f"{computed * published / (images * matchkit):.1f} |"
    )


@click.command()
@click.option("--root", type=click.Path(exists=True, path_type=Path), help="SPair-71k's tree, to count its test list.")
def main(root: Path | None) -> None:
    pairs, images = PAIRS, IMAGES
    if root:
        listed = open_dataset("spair", root).pairs("test")
        pairs, images = len(listed), len({image for pair in listed for image in (pair.source, pair.target)})
    click.echo(f"{pairs:,} pairs of {images:,} images")
    for preset in HABITS:
        click.echo(row(preset, pairs=pairs, images=images))


if __name__ == "__main__":
    main()

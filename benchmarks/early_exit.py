"""What ending a UNet call at its last wanted map saves: counted at Stable Diffusion's shapes, and measured in time.

    PYTHONSAFEPATH=1 python benchmarks/early_exit.py [--timed]

The embedded UNet is timed in any case; `--timed` also times SD 1.5's shapes at 512 pixels, of random weights, on whose
values no time depends (one latent; 4 GB of memory, a minute or two). One thread, its processor time, on which other
processes tell little; the best of some rounds in turns.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import click
import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from matchkit.extract.backbones.stable_diffusion import Pipeline, StableDiffusion
from matchkit.extract.backbones.taps import DecoderTaps

LAYERS = ("up0.out", "up1.out", "up2.out")
BATCH, ROUNDS, CALLS = 8, 5, 10
SHAPES: Mapping[str, tuple[Mapping[str, Any], int]] = {
    "SD 1.5 at 512 px": ({"cross_attention_dim": 768, "attention_head_dim": 8}, 64),
    "SD 2.1 at 768 px": (
        {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
        96,
    ),
}
"""Configurations, and cells an edge of the latent."""
TIMED = "SD 1.5 at 512 px"


def seconds(call: Callable[[], object], *, calls: int) -> float:
    start = time.thread_time()
    for _ in range(calls):
        call()
    return (time.thread_time() - start) / calls


@torch.inference_mode()
def embedded(layer: str) -> tuple[float, float]:
    """Seconds of a whole call and of one that ends at the layer."""
    pipeline = Pipeline("tiny", "trained", (layer,), "output", 0, "fp32", 0)
    network = StableDiffusion(pipeline, device=torch.device("cpu"))
    latents = torch.randn(BATCH, *network.latent_shape, generator=torch.Generator().manual_seed(0))
    states = network.text_encoder()("")
    whole, cut = (lambda: network.predict(latents, 261, states)), (lambda: network.maps(latents, 261, states))
    times = [(seconds(whole, calls=CALLS), seconds(cut, calls=CALLS)) for _ in range(ROUNDS)]
    return min(first for first, _ in times), min(second for _, second in times)


def published(shape: str, device: str) -> dict[str, Callable[[], object]]:
    """A whole call of the UNet of this shape, by the name `whole`, and those that end at a layer, by its name."""
    config, cells = SHAPES[shape]
    with torch.device(device):
        unet = UNet2DConditionModel(**config).eval().requires_grad_(requires_grad=False)
        latent, states = torch.zeros(1, 4, cells, cells), torch.zeros(1, 77, config["cross_attention_dim"])
        step = torch.zeros(1)

    def whole() -> None:
        unet(latent, step, encoder_hidden_states=states)

    def cut_at(layer: str) -> Callable[[], None]:
        taps = DecoderTaps(unet, (layer,), hook="output")

        def cut() -> None:
            with taps.recording(), taps.stopping():
                whole()

        return cut

    return {"whole": whole} | {layer: cut_at(layer) for layer in LAYERS}


@torch.inference_mode()
def counted(shape: str) -> dict[str, float]:
    """TFLOP of each call; nothing is computed."""
    tflop = {}
    for name, call in published(shape, "meta").items():
        with FlopCounterMode(display=False) as counter:
            call()
        tflop[name] = counter.get_total_flops() / 1e12
    return tflop


@torch.inference_mode()
def timed(shape: str) -> dict[str, float]:
    """Seconds of each call, the best of two rounds."""
    calls = published(shape, "cpu")
    rounds = [{name: seconds(call, calls=1) for name, call in calls.items()} for _ in range(2)]
    return {name: min(times[name] for times in rounds) for name in calls}


def show(layer: str, what: str, whole: float, cut: float) -> None:
    click.echo(f"{layer}: {what}: {whole:6.3f} -> {cut:6.3f} ({1 - cut / whole:.1%} saved)")


def show_all(what: str, values: Mapping[str, float]) -> None:
    for layer in LAYERS:
        show(layer, what, values["whole"], values[layer])


@click.command()
@click.option("--timed", "times", is_flag=True, help="Also time SD 1.5's shapes at 512 pixels.")
def main(*, times: bool) -> None:
    torch.set_num_threads(1)
    for layer in LAYERS:
        show(layer, f"embedded UNet, batch {BATCH}, seconds", *embedded(layer))
    for shape in SHAPES:
        show_all(f"{shape}, TFLOP", counted(shape))
    if times:
        show_all(f"{TIMED}, seconds", timed(TIMED))


if __name__ == "__main__":
    main()

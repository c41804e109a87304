"""What ending a UNet call at its last wanted map saves: of the embedded UNet in seconds, of SD 2.1's shape in FLOP.

PYTHONSAFEPATH=1 python benchmarks/early_exit.py
"""

import time
from collections.abc import Callable

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from matchkit.extract.backbones.stable_diffusion import Pipeline, StableDiffusion
from matchkit.extract.backbones.taps import DecoderTaps

LAYERS = ("up0.out", "up1.out", "up2.out")
BATCH, ROUNDS, CALLS = 8, 5, 10
SD21 = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
LATENT = 96
"""Cells an edge of the latent of 768 pixels."""


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


@torch.inference_mode()
def embedded(layer: str) -> tuple[float, float]:
    """Seconds of a whole call and of one that ends at the layer, one thread, the best of some rounds in turns."""
    pipeline = Pipeline("tiny", "trained", (layer,), "output", 0, "fp32", 0)
    network = StableDiffusion(pipeline, device=torch.device("cpu"))
    latents = torch.randn(BATCH, *network.latent_shape, generator=torch.Generator().manual_seed(0))
    states = network.text_encoder()("")
    times = [
        (seconds(lambda: network.predict(latents, 261, states)), seconds(lambda: network.maps(latents, 261, states)))
        for _ in range(ROUNDS)
    ]
    return min(whole for whole, _ in times), min(cut for _, cut in times)


@torch.no_grad()
def published(layer: str) -> tuple[int, int]:
    """FLOP of a whole call of SD 2.1 at 768 pixels, and of one that ends at the layer; nothing is computed."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD21).requires_grad_(requires_grad=False)
    latent, states = torch.empty(1, 4, LATENT, LATENT, device="meta"), torch.empty(1, 77, 1024, device="meta")

    def call() -> None:
        unet(latent, torch.zeros(1, device="meta"), encoder_hidden_states=states)

    taps = DecoderTaps(unet, (layer,), hook="output")
    with FlopCounterMode(display=False) as whole:
        call()
    with FlopCounterMode(display=False) as cut, taps.recording(), taps.stopping():
        call()
    return whole.get_total_flops(), cut.get_total_flops()


def main() -> None:
    torch.set_num_threads(1)
    for layer in LAYERS:
        whole, cut = embedded(layer)
        flop, flop_cut = published(layer)
        print(
            f"{layer}: embedded UNet, batch {BATCH}: {whole * 1e3:5.1f} -> {cut * 1e3:5.1f} ms "
            f"({1 - cut / whole:.1%} saved); SD 2.1 at 768 px: {flop / 1e12:.3f} -> {flop_cut / 1e12:.3f} TFLOP "
            f"({1 - flop_cut / flop:.1%} saved)"
        )


if __name__ == "__main__":
    main()

"""A training step of a prompt: from cached latents through the truncated UNet, and as SD4Match's code has it.

    PYTHONSAFEPATH=1 python benchmarks/prompt.py [--size embedded|published] [--pixels 256]

A step is two images of a pair, forward and backward to the tokens of one prompt, in fp32. As published: the VAE
encodes both images in every step, and each goes through all of the UNet, whose graph behind the wanted map is built and
dropped. Both ways compute with the same weights, noise and loss, and their gradients are compared. `embedded` is the
pipeline that ships with the package; `published` has Stable Diffusion 2.1's shapes, text encoder included, and random
weights, on whose values no time depends. Every way is measured in a process of its own, whose memory is that of the
step alone: the most it held less what it held before, by Linux's own account.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from matchkit.core.interfaces import BatchPair
from matchkit.extract.backbones.diffusion import image_noise
from matchkit.extract.backbones.promptable import PromptableDiffusion, PromptableParams
from matchkit.extract.backbones.stable_diffusion import PARTS, Pipeline, StableDiffusion
from matchkit.extract.backbones.weights import EMBEDDED, locate
from matchkit.heads.prompt_loss import PromptLossParams, prompt_loss

WAYS = ("published", "cached", "checkpointed")
LAYER = "up1.out"
TIMESTEP = 261
TOKENS = 75
KEYPOINTS = 10
IDS = ("cat/a", "cat/b")
CPU = torch.device("cpu")
SD21 = {
    **{"sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20)},
    "use_linear_projection": True,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
TEXT = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23}
Step = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Took:
    """Of one way's fastest steps seconds and processor seconds; bytes of a step, and of all, with the weights."""

    seconds: float
    processor: float
    step: int
    whole: int


def draw(folder: Path) -> None:
    """Fills a folder with networks of Stable Diffusion 2.1's shapes and random weights."""
    embedded = locate(EMBEDDED, embedded="stable-diffusion", marker="model_index.json", parts=PARTS)
    torch.manual_seed(0)
    text = CLIPTextConfig.from_pretrained(embedded / "text_encoder")
    for name, value in TEXT.items():
        setattr(text, name, value)
    for part in ("tokenizer", "scheduler"):
        shutil.copytree(embedded / part, folder / part)
    shutil.copy(embedded / "model_index.json", folder)
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    AutoencoderKL(**VAE).save_pretrained(folder / "vae")
    UNet2DConditionModel(**SD21).save_pretrained(folder / "unet")


def photographs(pixels: int) -> torch.Tensor:
    return torch.rand(2, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))


def as_published(weights: str, pixels: int) -> tuple[Step, torch.Tensor]:
    """Both images through the VAE and all of the UNet, one after the other; and the tokens to begin with."""
    network = StableDiffusion(
        Pipeline(weights, "trained", (LAYER,), hook="output", input_size=pixels, precision="fp32", seed=0), device=CPU
    )
    encoder, images = network.text_encoder(), photographs(network.input_size)
    read(network.unet, network.vae, encoder._encoder)

    def step(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states = encoder.of_embeddings(tokens)
        maps = []
        for row, image_id in enumerate(IDS):
            with torch.no_grad():
                latent = network.encode(images[row : row + 1]).expected()
            noise = image_noise(network.latent_shape, [image_id], seed=0, timestep=TIMESTEP, copy=0)
            maps.append(network.predict(network.noised(latent, noise, TIMESTEP), TIMESTEP, states)[1][LAYER][0])
        return maps[0], maps[1]

    return step, encoder.drawn(TOKENS, torch.Generator().manual_seed(0))[None]


def from_latents(weights: str, pixels: int, *, latents: Path, checkpointing: bool) -> tuple[Step, torch.Tensor]:
    """Both latents through the UNet up to the wanted map, together."""
    told = PromptableParams(weights=weights, input_size=pixels, layers=(LAYER,), checkpointing=checkpointing)
    network, held = PromptableDiffusion(told, device=CPU), torch.from_numpy(np.load(latents))
    read(network._network.unet, network._encoder._encoder)

    def step(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        source, target = network.maps(held, IDS, network.states_of_tokens(tokens), timestep=TIMESTEP)[LAYER]
        return source, target

    return step, network.drawn_tokens(TOKENS, torch.Generator().manual_seed(0))[None]


def read(*networks: nn.Module) -> None:
    """Reads all weights, which lie in a mapped file until they are asked for."""
    for weight in (weight for network in networks for weight in network.parameters()):
        weight.sum()


def encode(weights: str, pixels: int, into: Path) -> None:
    """What an extraction of latents does once."""
    told = Pipeline(weights, "trained", (LAYER,), hook="output", input_size=pixels, precision="fp32", seed=0)
    network = StableDiffusion(told, device=CPU)
    with torch.no_grad():
        np.save(into, network.encode(photographs(network.input_size)).expected().numpy())


def pair(side: int) -> BatchPair:
    draw = torch.Generator().manual_seed(1)
    source, target = (torch.rand(KEYPOINTS, 2, generator=draw) * (side - 1) for _ in range(2))
    cells = torch.zeros(KEYPOINTS, dtype=torch.long)
    return BatchPair(0, 1, source, target, cells, cells, float(side))


def measure(way: str, weights: str, pixels: int, *, scratch: Path, steps: int) -> Took:
    """Some steps of one way, in this process; leaves the gradient in a file."""
    if way == "published":
        step, start = as_published(weights, pixels)
    else:
        checkpointing = way == "checkpointed"
        step, start = from_latents(weights, pixels, latents=scratch / "latents.npy", checkpointing=checkpointing)
    tokens = start.clone().requires_grad_()
    before, seconds, processor = _held("VmRSS"), [], []
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    for _ in range(steps):
        began = time.perf_counter(), time.process_time()
        tokens.grad = None
        source, target = step(tokens)
        prompt_loss(PromptLossParams(), [(source, target, pair(source.shape[-1]))])["total"].backward()
        seconds.append(time.perf_counter() - began[0])
        processor.append(time.process_time() - began[1])
        del source, target
    assert tokens.grad is not None
    np.save(scratch / f"{way}.npy", tokens.grad.numpy())
    return Took(min(seconds), min(processor), _held("VmHWM") - before, _held("VmHWM"))


def _held(what: str) -> int:
    """Bytes by one of Linux's accounts of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[what].split()[0]) * 1024


def in_a_process(*told: str) -> str:
    command = [sys.executable, __file__, *told]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def compare(weights: str, pixels: int, *, steps: int, ways: tuple[str, ...], scratch: Path) -> None:
    common = ("--weights", weights, "--pixels", str(pixels), "--scratch", str(scratch), "--steps", str(steps))
    if weights != EMBEDDED:
        in_a_process("--measure", "draw", *common)
    in_a_process("--measure", "encode", *common)
    took = {way: Took(**json.loads(in_a_process("--measure", way, *common))) for way in ways}
    gradients = {way: np.load(scratch / f"{way}.npy") for way in ways}
    base, right = took["published"], gradients["published"]
    click.echo(
        "| way | s a step | processor s | times less | MB of the step | times less | MB in all | gradient off by |"
    )
    click.echo("|---|---|---|---|---|---|---|---|")
    for way, each in took.items():
        apart = np.linalg.norm(gradients[way] - right) / np.linalg.norm(right)
        click.echo(
            f"| {way} | {each.seconds:.3f} | {each.processor:.3f} | {base.processor / each.processor:.2f} | "
            f"{each.step / 1e6:,.0f} | "
            f"{base.step / each.step:.2f} | {each.whole / 1e6:,.0f} | {apart:.1e} |"
        )


@click.command()
@click.option("--size", type=click.Choice(["embedded", "published"]), default="embedded", show_default=True)
@click.option("--pixels", default=0, help="Of the input's side. [default: 128 embedded, 256 published]")
@click.option("--steps", default=0, help="Of which the fastest counts. [default: 5 embedded, 1 published]")
@click.option("--way", "ways", multiple=True, type=click.Choice(WAYS), help="[default: all]")
@click.option("--weights", default=EMBEDDED, hidden=True)
@click.option("--scratch", type=click.Path(path_type=Path), hidden=True)
@click.option("--measure", "one", default="", hidden=True)
def main(
    size: str, pixels: int, steps: int, ways: tuple[str, ...], weights: str, scratch: Path | None, one: str
) -> None:
    if one == "draw":
        draw(Path(weights))
    elif scratch and one == "encode":
        encode(weights, pixels, scratch / "latents.npy")
    elif scratch:
        click.echo(json.dumps(vars(measure(one, weights, pixels, scratch=scratch, steps=steps))))
    else:
        with tempfile.TemporaryDirectory() as name:
            weights = str(Path(name) / "weights") if size == "published" else EMBEDDED
            chosen = ("published", *(way for way in WAYS[1:] if not ways or way in ways))
            pixels = pixels or (128 if size == "embedded" else 256)
            compare(weights, pixels, steps=steps or (5 if size == "embedded" else 1), ways=chosen, scratch=Path(name))


if __name__ == "__main__":
    main()

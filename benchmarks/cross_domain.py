"""A training step of the cross-domain head: its memory, its time and the floor of its arithmetic, beside the matrix.

    PYTHONSAFEPATH=1 python benchmarks/cross_domain.py [--grid 64] [--batch 1]

A step is forward and backward of all terms, on random features of the embedded backbones' widths, in fp32 on one
thread. `dense` is the same step with the softmax written down, as the published code has it: (cells, cells) values a
sample, and as many for the gradient. Every way is measured in a process of its own, whose memory is the most it held
less what it held before, by Linux's own account. The floor is the step's floating-point operations, counted by torch
for the convolutions and by hand for the attention, over the rate of a large matrix product on this machine.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
from jaxtyping import Float
from torch.utils.flop_counter import FlopCounterMode

from matchkit.core.exemplar_batches import PARTS, PHOTO, ExemplarBatch, Photographs
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.cross_domain import matching
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.settings import CrossDomainParams

SPEC = FeatureSpec(
    *("geoaware", "random", (LayerSpec("sd.s3", 64, (8, 8)), LayerSpec("dino", 96, (16, 16))), (0,)),
    *((128, 128), "stretch", "fp16"),
)
CLASSES = 45
WAYS = ("attention", "dense")
ROUNDS = 3


@dataclass(frozen=True)
class Took:
    """Seconds of the quickest step, bytes at most, operations, and the loss."""

    seconds: float
    bytes_at_most: int
    flops: float
    loss: float


def photographs(grid: int, batch: int, name: str) -> Photographs:
    """Random ones, with a condition of twice the grid and a photograph of twice the grid."""
    side = 2 * grid
    labels = torch.randint(CLASSES, (batch, side, side))
    hot = torch.nn.functional.one_hot(labels, CLASSES).permute(0, 3, 1, 2).float()
    maps = {layer.name: torch.randn(batch, 1, layer.channels, *layer.grid) for layer in SPEC.layers}
    ids = tuple(f"{name}{number}" for number in range(batch))
    return Photographs(ids, maps, hot, {PHOTO: torch.rand(batch, 3, side, side) * 2 - 1, PARTS: hot})


def dense(
    queries: Float[torch.Tensor, "b n d"],
    keys: Float[torch.Tensor, "b m d"],
    payload: Float[torch.Tensor, "b p gh gw"],
    temperature: float,
) -> Float[torch.Tensor, "b p gh gw"]:
    """The published way: the matrix, its softmax, and a product."""
    shares = (queries @ keys.transpose(1, 2) / temperature).softmax(2)
    warped: torch.Tensor = shares @ payload.flatten(2).transpose(1, 2)
    return warped.transpose(1, 2).unflatten(2, payload.shape[2:])


def attention_flops(grid: int, batch: int, width: int) -> float:
    """Forward and backward of warp and cycle: products of (cells, cells) with the keys' and a payload part's width."""
    heads = -(-(96 + 3 + CLASSES) // width) + -(-3 // width)
    return 2 * batch * heads * grid**4 * width * (2 + 5)


def measure(way: str, *, grid: int, batch: int) -> Took:
    """One way, in this process."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    params = CrossDomainParams(channels=CLASSES, side=2 * grid, grid=grid, width=48, out=48)
    head = CrossDomain(params, spec=SPEC)
    if way == "dense":
        matching._attend = dense
    same = torch.arange(batch) % 2 == 0
    given = ExemplarBatch(photographs(grid, batch, "a"), photographs(grid, batch, "b"), same, 0, 0.5)
    before = _held()
    seconds = []
    for _ in range(ROUNDS):
        head.network.zero_grad()
        start = time.perf_counter()
        loss = head.loss(given)["total"]
        loss.backward()
        seconds.append(time.perf_counter() - start)
    most = _held(peak=True)
    with FlopCounterMode(display=False) as counter:  # last: it keeps memory of its own
        head.loss(given)["total"].backward()
    flops = counter.get_total_flops() + (attention_flops(grid, batch, 48) if way == "attention" else 0)
    return Took(min(seconds), most - before, flops, float(loss.detach()))


def _held(*, peak: bool = False) -> int:
    """Bytes of this process, now or at most so far; asking for what is held now forgets the most."""
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")
    name = "VmHWM:" if peak else "VmRSS:"
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def matmul_rate() -> float:
    """Floating-point operations a second of a matrix product on one thread."""
    torch.set_num_threads(1)
    a = torch.randn(1024, 1024)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * 1024**3 / best


@click.command()
@click.option("--grid", default=64, show_default=True)
@click.option("--batch", default=1, show_default=True)
@click.option("--way", type=click.Choice(WAYS), hidden=True)
def main(grid: int, batch: int, way: str | None) -> None:
    """Measures both ways, or the one that is named in this very process."""
    if way:
        click.echo(json.dumps(asdict(measure(way, grid=grid, batch=batch))))
        return
    rate = matmul_rate()
    click.echo(f"grid {grid} x {grid}, batch {batch}, one thread, {rate / 1e9:.0f} GFLOP/s")
    click.echo("| way | seconds a step | times the floor | MB at most | loss |\n|---|---:|---:|---:|---:|")
    for name in WAYS:
        command = [sys.executable, __file__, "--grid", str(grid), "--batch", str(batch), "--way", name]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        took = Took(**json.loads(run.stdout.splitlines()[-1]))
        times = took.seconds / (took.flops / rate)
        click.echo(f"| {name} | {took.seconds:.2f} | {times:.1f} | {took.bytes_at_most / 1e6:.0f} | {took.loss:.4f} |")


if __name__ == "__main__":
    main()

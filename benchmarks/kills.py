"""Kills of a writer at random moments: what is lost of all that it had committed.

    PYTHONSAFEPATH=1 python benchmarks/kills.py [--kills 200]

A process writes, overwrites and withdraws small images and finalizes, without end; one layer has a shard file an image,
the other one for sixteen. It is killed (SIGKILL), every image is compared bit for bit with what the process had told,
and the next process goes on. An image that was being written may be the old one, the new one or absent. A reader that
was opened before the first kill must agree. A kill is no power cut: nothing is said about the disk.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click
import torch

from matchkit.cache import layout
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("shared", 8, (4, 4)), LayerSpec("apart", 32, (8, 8)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (-1, 100), (64, 64), "stretch", "fp16")
IDS = [f"image{number}" for number in range(40)]
LONGEST = 0.5
"""Seconds that a writer lives at most."""


def maps_of(seed: int) -> Mapping[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {layer.name: torch.randn(2, layer.channels, *layer.grid, generator=generator).half() for layer in LAYERS}


def write_for_ever(folder: Path, pipe: int, chance: random.Random) -> None:
    """Tells what it begins and what it has done: `begin image3 17`, `done image3 17`; 0 stands for a withdrawal."""
    with FeatureStore.create(folder, SPEC, IDS) as store:
        while True:
            image_id, seed = chance.choice(IDS), chance.randrange(1, 1 << 30)
            if chance.random() < 0.05:
                store.finalize()
            elif chance.random() < 0.05:
                os.write(pipe, f"begin {image_id} 0\n".encode())
                store.withdraw(image_id)
                os.write(pipe, f"done {image_id} 0\n".encode())
            else:
                maps = maps_of(seed)
                os.write(pipe, f"begin {image_id} {seed}\n".encode())
                store.write(image_id, maps)
                os.write(pipe, f"done {image_id} {seed}\n".encode())


def run_and_kill(folder: Path, chance: random.Random) -> list[tuple[str, str, int]]:
    """What a writer told until it was killed, as (begin or done, image, seed)."""
    reading, writing = os.pipe()
    own = random.Random(chance.random())
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            write_for_ever(folder, writing, own)
        except StoreError as error:
            print(error, file=sys.stderr, flush=True)
        os._exit(1)
    os.close(writing)
    time.sleep(chance.uniform(0, LONGEST))
    os.kill(child, signal.SIGKILL)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        raise click.ClickException("the writer ended by itself")
    with os.fdopen(reading) as pipe:
        return [(word, image_id, int(seed)) for word, image_id, seed in map(str.split, pipe)]


def seed_of(store: FeatureStore, image_id: str, seeds: set[int]) -> int | None:
    """Which of some seeds the maps of an image were drawn from, 0 where it is absent, None where from none of them."""
    if store.missing([image_id]):
        return 0
    read = store.read(image_id)
    return next((seed for seed in seeds - {0} if all(torch.equal(read[x], y) for x, y in maps_of(seed).items())), None)


def check(stores: list[FeatureStore], held: dict[str, int], begun: tuple[str, int] | None) -> Counter[str]:
    """Compares all images of some stores with what was told, and takes up in `held` what became of the last one."""
    wrong: Counter[str] = Counter()
    for image_id in IDS:
        seeds = {held[image_id], *((begun[1], 0) if begun and begun[0] == image_id else ())}
        found = [seed_of(store, image_id, seeds) for store in stores]
        wrong["lost"] += sum(seed == 0 and 0 not in seeds for seed in found)
        wrong["wrong"] += found.count(None)
        held[image_id] = found[0] or 0
    return wrong


@click.command()
@click.option("--kills", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    layout.SMALL_SHARD = 1 << 12
    chance, folder = random.Random(seed), Path(tempfile.mkdtemp(prefix="matchkit-kills-"))
    path = folder / "F.zarr"
    FeatureStore.create(path, SPEC, IDS).close()
    held, total, early, start = dict.fromkeys(IDS, 0), Counter[str](), FeatureStore.open(path), time.perf_counter()
    for _ in range(kills):
        told = run_and_kill(path, chance)
        done = [(image_id, drawn) for word, image_id, drawn in told if word == "done"]
        held |= dict(done)
        total["committed"] += len(done)
        total["swept"] += len(list(path.glob("ledger/tmp.*/*")))
        early.refresh()
        last = told[-1] if told and told[-1][0] == "begin" else None
        total += check([FeatureStore.open(path), early], held, last and (last[1], last[2]))
    with FeatureStore.create(path, SPEC, IDS) as store:
        store.finalize()
        total += check([store, FeatureStore.open(path), early], held, None)
        left = len(list(path.glob("ledger/tmp.*/*")))
    click.echo(
        f"{kills} kills in {time.perf_counter() - start:.0f} s: {total['committed']:,} images committed, "
        f"{total['lost']} lost, {total['wrong']} wrong; {total['swept']} leftovers of the killed, {left} not swept"
    )
    shutil.rmtree(folder)
    sys.exit(bool(total["lost"] or total["wrong"] or left))


if __name__ == "__main__":
    main()

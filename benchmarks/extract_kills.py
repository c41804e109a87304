"""Kills of an extraction at random moments: what is lost, and what is computed twice.

    PYTHONSAFEPATH=1 python benchmarks/extract_kills.py [--kills 20]

The embedded Stable Diffusion inverts drawn photographs. The process is killed (SIGKILL) at a random moment, from its
start on, and the next one goes on. Every process tells the images of each batch that it begins to compute; what is
complete stands in the journals. A complete image may never be absent later, nor be computed again: what a kill costs
are the images in hand. When the store is complete, all its bytes are compared with those of a run that nobody killed;
if kills are left, another store is begun.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from matchkit.cache.store import FeatureStore
from matchkit.extract.backbones.sd_inversion import SDInversion
from matchkit.extract.run import AHEAD
from matchkit.pipelines.extract import extract
from matchkit.pipelines.fill import WAITING

BATCH, THREADS = 2, 2
SETTINGS = ("steps=4", "keys=[3,2]", f"batch={BATCH}", f"threads={THREADS}")
IN_HAND = (THREADS + AHEAD) * BATCH + WAITING + 1
"""Images that a process may have begun and not committed: in its batches, in the queue, and the one being written."""


def draw(folder: Path, *, images: int) -> None:
    """Small photographs, each a blur of other colours."""
    folder.mkdir()
    for number in range(images):
        coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((140, 120), Image.Resampling.BICUBIC).save(folder / f"{number:04d}.png")


def run(photos: Path, store: Path, pipe: int) -> None:
    """Extracts what is missing; tells the images of every batch, a line each batch."""
    plain = SDInversion.__call__

    def telling(backbone: SDInversion, images: torch.Tensor, ids: Sequence[str]) -> dict[str, torch.Tensor]:
        os.write(pipe, (" ".join(sorted(set(ids))) + "\n").encode())
        return plain(backbone, images, ids)

    SDInversion.__call__ = telling  # type: ignore[method-assign, assignment]
    extract("folder", "sd-inversion", root=photos, out=store, settings=SETTINGS, device="cpu")


def run_and_kill(photos: Path, store: Path, *, after: float | None = None) -> tuple[bool, list[str]]:
    """Runs an extraction in a process of its own, killed after so many seconds if it still runs then.

    Returns:
        Whether it was killed, and the images that it began to compute.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            run(photos, store, writing)
        except BaseException as error:  # a fork of this program never goes on in its stead
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    os.close(writing)
    deadline = time.monotonic() + (float("inf") if after is None else after)
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.001)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    status = ended[1]
    if status not in (0, signal.SIGKILL):
        raise click.ClickException("the extraction failed")
    with os.fdopen(reading) as pipe:
        return status == signal.SIGKILL, pipe.read().split()


def complete(store: Path) -> set[str]:
    """The images that are complete; none where there is no layout yet."""
    return set(FeatureStore.open(store).ids) if (store / "zarr.json").exists() else set()


def contents(store: Path) -> dict[str, bytes]:
    """All files but those in the ledger that tell readers when something was changed."""
    files = {path.relative_to(store).as_posix(): path for path in store.rglob("*") if path.is_file()}
    times = ("ledger/pulse", "ledger/folded.")
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(times)}


def kill_until_done(
    photos: Path, store: Path, chance: random.Random, *, kills: int, longest: float, images: int
) -> Counter[str]:
    """Kills an extraction again and again, and lets it end once there were so many kills."""
    counts: Counter[str] = Counter()
    kept: set[str] = set()
    killed = True
    while killed:
        after = chance.uniform(0, longest) if counts["kills"] < kills else None
        killed, computed = run_and_kill(photos, store, after=after)
        now = complete(store)
        in_hand = len(set(computed) - now)
        counts += Counter(
            kills=int(killed),
            idle=int(killed and not computed),
            lost=len(kept - now),
            again=len(kept & set(computed)),
            computed=len(computed),
            too_many=int(in_hand > IN_HAND),
        )
        counts["worst"] = max(counts["worst"], in_hand)
        kept = now
    counts["absent"] = images - len(kept)
    counts["twice"] = counts["computed"] - images
    return counts


@click.command()
@click.option("--kills", default=20, show_default=True)
@click.option("--images", default=48, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(kills: int, images: int, seed: int) -> None:
    torch.set_num_threads(1)
    chance, folder = random.Random(seed), Path(tempfile.mkdtemp(prefix="matchkit-extract-kills-"))
    draw(folder / "photos", images=images)
    start = time.perf_counter()
    run_and_kill(folder / "photos", folder / "whole.zarr")
    unbroken, whole = time.perf_counter() - start, contents(folder / "whole.zarr")
    total: Counter[str] = Counter()
    stores = different = worst = 0
    while total["kills"] < kills:
        store, left = folder / f"killed{stores}.zarr", kills - total["kills"]
        counts = kill_until_done(folder / "photos", store, chance, kills=left, longest=unbroken / 2, images=images)
        different += contents(store) != whole
        total, worst, stores = total + counts, max(worst, counts["worst"]), stores + 1
    click.echo(
        f"{total['kills']} kills of {stores} extractions of {images} images in {time.perf_counter() - start:.0f} s "
        f"({total['idle']} before the first batch): {different} stores with other bytes than the unbroken one, "
        f"{total['lost'] + total['absent']} complete images lost, {total['again']} computed again; "
        f"{total['twice']} images begun twice, at most {worst} a kill (in hand: {IN_HAND})"
    )
    shutil.rmtree(folder)
    sys.exit(bool(different or total["lost"] or total["absent"] or total["again"] or total["too_many"]))


if __name__ == "__main__":
    main()

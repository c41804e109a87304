"""An extraction by a dask cluster of real processes: one of which is killed half-way, or the scheduler."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from matchkit.cache.store import FeatureStore

IMAGES = 64
SETTINGS = ("input_size=1024", "cell=8", "batch=2")  # sixteen images a shard file: four tasks
DEADLINE = 240.0
"""Seconds after which something hangs, on a machine with much else to do; alone, each test takes a dozen."""
Running = subprocess.Popen[str]

pytestmark = pytest.mark.slow


def started(folder: Path, *command: str) -> Running:
    environment = dict(os.environ, PYTHONSAFEPATH="1", OMP_NUM_THREADS="1")
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", *command], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
    )


def extraction(folder: Path, out: str, *more: str) -> Running:
    settings = [option for setting in SETTINGS for option in ("--set", setting)]
    what = ("extract", "--dataset", "folder", "--root", "photos", "--backbone", "pixels", "--device", "cpu")
    return started(folder, "matchkit", *what, "--out", out, *settings, *more)


def finish(process: Running, *, code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == code, err
    return out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, draw: Callable[[tuple[int, int], int], Image.Image]) -> Path:
    """A folder with photographs, and `plain.zarr` as one process extracts them."""
    root = tmp_path_factory.mktemp("cluster")
    (root / "photos").mkdir()
    for number in range(IMAGES):
        draw((140, 120), number).save(root / "photos" / f"{number:02d}.png")
    finish(extraction(root, "plain.zarr"))
    return root


def same(one: Path, other: Path) -> None:
    """Requires the same files of features, and the same of all checksums in the ledgers."""
    shards, others = ({path.name: path.read_bytes() for path in (store / "rgb").iterdir()} for store in (one, other))
    assert shards == others
    assert FeatureStore.open(one).content == FeatureStore.open(other).content
    assert (one / "ledger/manifest.json").read_bytes() == (other / "ledger/manifest.json").read_bytes()


@pytest.fixture
def address() -> str:
    """Where nobody listens on this machine yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def scheduler(folder: Path, address: str) -> Iterator[Running]:
    """A real scheduler on this machine."""
    port = address.rpartition(":")[2]
    command = ("--host", "127.0.0.1", "--port", port, "--dashboard-address", "127.0.0.1:0")
    process = started(folder, "distributed.cli.dask_scheduler", *command)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def workers(folder: Path, scheduler: Running, address: str) -> Iterator[list[Running]]:
    """Two workers of one thread, in another folder than the parent's: what they are told must not depend on it."""
    command = ("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
    processes = [started(folder / "photos", *command) for _ in range(2)]
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def complete(store: Path) -> int:
    """Images that are complete by the journals."""
    return sum(journal.read_bytes().count(b"\n") for journal in (store / "ledger").glob("journal.*.jsonl"))


def wait_for(images: int, store: Path, parent: Running) -> None:
    deadline = time.monotonic() + DEADLINE
    while complete(store) < images:
        assert time.monotonic() < deadline
        assert parent.poll() is None, parent.communicate()
        time.sleep(0.005)


def test_a_killed_worker_leaves_the_same_store(folder: Path, workers: list[Running], address: str) -> None:
    parent = extraction(folder, "killed.zarr", "--scheduler", address)
    wait_for(IMAGES // 4, folder / "killed.zarr", parent)
    workers[0].send_signal(signal.SIGKILL)
    workers[0].communicate()
    assert complete(folder / "killed.zarr") < IMAGES
    out, _ = finish(parent)
    assert f"{IMAGES} images extracted, 0 were there" in out
    same(folder / "killed.zarr", folder / "plain.zarr")


def test_a_lost_scheduler_is_told_and_what_was_done_is_kept(
    folder: Path, scheduler: Running, workers: list[Running], address: str
) -> None:
    parent = extraction(folder, "headless.zarr", "--scheduler", address)
    wait_for(2, folder / "headless.zarr", parent)
    scheduler.send_signal(signal.SIGKILL)
    out, err = finish(parent, code=1)
    assert not out
    assert f"Error: the scheduler at {address} was lost" in err
    assert "Traceback" not in err
    assert len(FeatureStore.open(folder / "headless.zarr").ids) >= 2


def test_workers_of_this_machine_and_a_photograph_that_cannot_be_decoded(folder: Path) -> None:
    broken = folder / "photos" / "30.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    try:
        _, err = finish(extraction(folder, "workers.zarr", "--workers", "2"), code=1)
    finally:
        broken.write_bytes(whole)
    assert f"1 of {IMAGES} images cannot be extracted" in err
    assert "30.png cannot be decoded" in err
    assert "Traceback" not in err
    assert len(FeatureStore.open(folder / "workers.zarr").ids) == IMAGES - 1
    out, _ = finish(extraction(folder, "workers.zarr"))
    assert f"1 images extracted, {IMAGES - 1} were there" in out
    same(folder / "workers.zarr", folder / "plain.zarr")

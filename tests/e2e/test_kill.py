"""An extraction that is killed loses nothing and resumes to the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

IMAGES = 24
SETTINGS = ("steps=10", "keys=[8,6]", "batch=2", "threads=1")


def start(folder: Path, out: str) -> "subprocess.Popen[bytes]":
    options = [option for setting in SETTINGS for option in ("--set", setting)]
    command = [sys.executable, "-m", "matchkit", "extract", "--dataset", "folder", "--root", "photos", "--out", out]
    environment = dict(os.environ, PYTHONSAFEPATH="1")
    return subprocess.Popen([*command, *options], cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def contents(store: Path) -> dict[str, bytes]:
    """All files but those in the ledger that tell readers when something was changed."""
    files = {path.relative_to(store).as_posix(): path for path in store.rglob("*") if path.is_file()}
    times = ("ledger/pulse", "ledger/folded.")
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(times)}


def lines(store: Path) -> int:
    """Images that are complete by the journals."""
    return sum(journal.read_bytes().count(b"\n") for journal in (store / "ledger").glob("journal.*.jsonl"))


@pytest.mark.slow
def test_killed_in_the_middle_and_resumed(tmp_path: Path, draw: Callable[[tuple[int, int], int], Image.Image]) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(IMAGES):
        draw((140, 120), number).save(tmp_path / "photos" / f"{number:02d}.png")
    assert start(tmp_path, "whole.zarr").wait() == 0
    killed = start(tmp_path, "broken.zarr")
    deadline = time.monotonic() + 120
    while lines(tmp_path / "broken.zarr") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 3 <= lines(tmp_path / "broken.zarr") < IMAGES
    assert start(tmp_path, "broken.zarr").wait() == 0
    assert contents(tmp_path / "broken.zarr") == contents(tmp_path / "whole.zarr")

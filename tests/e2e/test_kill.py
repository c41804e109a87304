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
SETTINGS = ("steps=10", "keys=[8,6]", "batch=2", "workers=1")


def start(folder: Path, out: str) -> "subprocess.Popen[bytes]":
    options = [option for setting in SETTINGS for option in ("--set", setting)]
    command = [sys.executable, "-m", "matchkit", "extract", "--dataset", "folder", "--root", "photos", "--out", out]
    environment = dict(os.environ, PYTHONSAFEPATH="1")
    return subprocess.Popen([*command, *options], cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def contents(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_killed_in_the_middle_and_resumed(tmp_path: Path, draw: Callable[[tuple[int, int], int], Image.Image]) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(IMAGES):
        draw((140, 120), number).save(tmp_path / "photos" / f"{number:02d}.png")
    assert start(tmp_path, "whole.zarr").wait() == 0
    journal = tmp_path / "broken.zarr" / "ledger" / "journal.jsonl"
    killed = start(tmp_path, "broken.zarr")
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 3 <= journal.read_bytes().count(b"\n") < IMAGES
    assert start(tmp_path, "broken.zarr").wait() == 0
    assert contents(tmp_path / "broken.zarr") == contents(tmp_path / "whole.zarr")

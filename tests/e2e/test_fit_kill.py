"""A fit that is killed goes on from its last validation, and ends in the bytes of one that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FIT = ("fit-head", "post-processor", "--set", "features=pixels", "--set", "projection=128", "--set", "pairs=2")
MORE = ("--set", "steps=60", "--set", "validate_every=6", "--set", "schedule=one-cycle", "--set", "self_flip=0.25")


def start(folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    environment = dict(os.environ, PYTHONSAFEPATH="1", OMP_NUM_THREADS="1")
    tree = ("--dataset", "spair", "--root", "spair", "--device", "cpu")
    command = [sys.executable, "-m", "matchkit", *options, *tree]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_killed_in_the_middle_and_taken_up(spair_tree: Path) -> None:
    folder = spair_tree.parent
    assert start(folder, "extract", "--backbone", "pixels", "--set", "input_size=32", "--flip").wait() == 0
    assert start(folder, *FIT, *MORE, "--out", "whole.safetensors").wait() == 0
    killed = start(folder, *FIT, *MORE, "--out", "broken.safetensors")
    deadline = time.monotonic() + 60
    while not (folder / "broken.checkpoint.pt").exists():
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert (folder / "broken.history.jsonl").read_text().count("\n") < 10
    assert start(folder, *FIT, *MORE, "--out", "broken.safetensors").wait() == 0
    for kind in (".safetensors", ".last.safetensors", ".history.jsonl"):
        assert (folder / f"broken{kind}").read_bytes() == (folder / f"whole{kind}").read_bytes(), kind
    assert not (folder / "broken.checkpoint.pt").exists()

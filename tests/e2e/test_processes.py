"""A head that several processes fit together is the head that one process fits alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from matchkit.heads.weights import HeadWeights

LAUNCH = ("-m", "accelerate.commands.launch", "--cpu", "--num_machines", "1", "--mixed_precision", "no")
FIT = ("-m", "matchkit", "fit-head", "aggregator", "--dataset", "spair")
SETTINGS = ("features=pixels", "projection=128", "steps=3", "validate_every=2", "pairs=2", "lr=1e-2")


def run(folder: Path, *command: str) -> None:
    environment = dict(os.environ, PYTHONSAFEPATH="1", OMP_NUM_THREADS="1")
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    result = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def fit(folder: Path, root: Path, name: str, *, processes: int) -> HeadWeights:
    options = [option for setting in SETTINGS for option in ("--set", setting)]
    # launch reads what follows as a script or, told so, a module
    launched = (*LAUNCH, "--num_processes", str(processes), *FIT) if processes > 1 else FIT
    run(folder, *launched, "--root", str(root), "--out", f"{name}.safetensors", "--device", "cpu", *options)
    return HeadWeights.load(folder / f"{name}.last.safetensors")


@pytest.mark.slow
def test_two_processes_average_their_gradients(spair_tree: Path) -> None:
    """Of two pairs a step each process has one, and the steps are those of one process with both."""
    folder = spair_tree.parent
    run(folder, *FIT[:2], "extract", "--dataset", "spair", "--backbone", "pixels", "--root", str(spair_tree),
        "--set", "input_size=32")  # fmt: skip
    alone, together = (fit(folder, spair_tree, f"by-{processes}", processes=processes) for processes in (1, 2))
    assert together.fit["step"] == 3
    start = fit(folder, spair_tree, "start", processes=1)  # the same once more: nothing else moves the weights
    for name, values in alone.tensors.items():
        torch.testing.assert_close(together.tensors[name], values, rtol=1e-3, atol=1e-5)
        assert torch.equal(start.tensors[name], values)
    assert alone.fit["validation"] == pytest.approx(together.fit["validation"], abs=1e-6)

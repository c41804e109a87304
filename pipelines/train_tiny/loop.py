"""The training loop of all three phases: seeded by step, checkpointed, averaged, logged over samples seen.

Every step draws its numbers from a generator made of (seed, phase, step), so a run that was killed and resumed ends in
the same weights as one that was not. What is exported is the exponential moving average of the weights.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn
from tqdm import tqdm

from matchkit.core.errors import WeightsError
from matchkit.core.seeding import generator

_SAVE_SECONDS = 60.0
_LOG_STEPS = 20

MEASURE_STEPS = 500
"""Steps between two probes of the averaged networks."""

Measure = Callable[[Mapping[str, nn.Module]], Mapping[str, float]]


@dataclass(frozen=True)
class Phase:
    """What is trained, and how.

    Attributes:
        name: Names the checkpoint and the log: `vae`, `unet` or `vit`.
        modules: The networks whose weights move.
        loss: Draws one batch from a generator and returns its losses; "total" is the one that is minimised.
        batch: Samples a step, for the log.
        learning_rate: At the top of the schedule: 5 % linear warm-up, then a cosine down to 2 % of it.
        average: Decay of the moving average of the weights, a step.
    """

    name: str
    modules: Mapping[str, nn.Module]
    loss: Callable[[torch.Generator], Mapping[str, Tensor]]
    batch: int
    learning_rate: float
    average: float = 0.998


class Trainer:
    """One phase under way: the weights, their average, the optimiser and how far it has come."""

    def __init__(self, phase: Phase, *, steps: int, seed: int, folder: Path) -> None:
        self.phase, self.steps, self.seed, self.folder = phase, steps, seed, folder
        self.step, self.cpu_seconds = 0, 0.0
        self.averages = {
            name: deepcopy(module).requires_grad_(requires_grad=False) for name, module in phase.modules.items()
        }
        parameters = [p for module in phase.modules.values() for p in module.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=phase.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.parameters = parameters

    @property
    def checkpoint(self) -> Path:
        """The file that the run takes up from."""
        return self.folder / f"{self.phase.name}.pt"

    def _rate(self, step: int) -> float:
        warm = max(1, self.steps // 20)
        if step < warm:
            return (step + 1) / warm
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, self.steps - warm))))

    def save(self) -> None:
        """Writes the checkpoint: complete under its name, or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.checkpoint.with_suffix(".part")
        state: dict[str, Any] = {
            "modules": {name: module.state_dict() for name, module in self.phase.modules.items()},
            "averages": {name: module.state_dict() for name, module in self.averages.items()},
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seed": self.seed,
            "cpu_seconds": self.cpu_seconds,
        }
        torch.save(state, part)
        part.replace(self.checkpoint)

    def load(self) -> None:
        """Takes up the checkpoint.

        Raises:
            WeightsError: It was written under another seed.
        """
        state = torch.load(self.checkpoint, weights_only=True)
        if state["seed"] != self.seed:
            raise WeightsError(
                f"{self.checkpoint} was trained from seed {state['seed']}, not {self.seed}. Give --seed {state['seed']}"
            )
        for name, module in self.phase.modules.items():
            module.load_state_dict(state["modules"][name])
            self.averages[name].load_state_dict(state["averages"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.cpu_seconds = state["step"], state["cpu_seconds"]

    def advance(self) -> dict[str, float]:
        """Takes one step and returns its losses."""
        started = time.process_time()
        losses = self.phase.loss(generator(self.seed, self.phase.name, self.step))
        self.optimiser.zero_grad(set_to_none=True)
        losses["total"].backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = self.phase.learning_rate * self._rate(self.step)
        self.optimiser.step()
        self.step += 1
        self._follow()
        self.cpu_seconds += time.process_time() - started
        return {name: float(value.detach()) for name, value in losses.items()}

    def progress(self) -> dict[str, Any]:
        """Samples seen and CPU-seconds spent in steps so far."""
        return {"samples": self.step * self.phase.batch, "cpu_seconds": round(self.cpu_seconds, 1)}

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self.phase.average, (1 + self.step) / (10 + self.step))
        for name, module in self.phase.modules.items():
            pairs = zip(self.averages[name].state_dict().values(), module.state_dict().values(), strict=True)
            for average, value in pairs:
                if average.is_floating_point():
                    average.lerp_(value, 1 - decay)
                else:
                    average.copy_(value)


def train(
    phase: Phase,
    *,
    steps: int,
    seed: int,
    folder: Path,
    resume: bool,
    stop: int | None = None,
    measure: Measure | None = None,
) -> dict[str, nn.Module]:
    """Trains a phase to `steps` steps and returns the averaged networks, by name.

    Args:
        phase: What is trained.
        steps: Length of the schedule; a resumed run takes the steps that are left.
        seed: Makes every batch.
        folder: Where `<phase>.pt` and `<phase>.jsonl` go.
        resume: Whether to take up a checkpoint that is there.
        stop: Step to stop at, checkpointed, before the schedule's end.
        measure: Called with the averaged networks every `MEASURE_STEPS` steps; what it returns is logged.

    Raises:
        WeightsError: The checkpoint was written under another seed.
    """
    trainer = Trainer(phase, steps=steps, seed=seed, folder=folder)
    if resume and trainer.checkpoint.exists():
        trainer.load()
    folder.mkdir(parents=True, exist_ok=True)
    saved = time.monotonic()
    recent: list[Mapping[str, float]] = []
    with _open_log(folder / f"{phase.name}.jsonl", trainer) as log:
        for _ in tqdm(range(trainer.step, steps if stop is None else stop), desc=phase.name, unit="step", disable=None):
            recent.append(trainer.advance())
            if trainer.step % _LOG_STEPS == 0:
                means = {name: sum(losses[name] for losses in recent) / len(recent) for name in recent[0]}
                log.write(json.dumps(trainer.progress() | means) + "\n")
                recent.clear()
            if measure is not None and trainer.step % MEASURE_STEPS == 0:
                log.write(json.dumps(trainer.progress() | {"pck": measure(trainer.averages)}) + "\n")
            if time.monotonic() - saved > _SAVE_SECONDS:
                trainer.save()
                saved = time.monotonic()
    trainer.save()
    return dict(trainer.averages)


def _open_log(path: Path, trainer: Trainer) -> TextIO:
    """The log, a row a line, without the rows of steps that a killed run took after its last checkpoint."""
    rows = path.read_text().splitlines(keepends=True) if path.exists() and trainer.step else []
    seen = trainer.progress()["samples"]
    path.write_text("".join(row for row in rows if json.loads(row)["samples"] <= seen))
    return path.open("a", buffering=1)


def load_averages(modules: Mapping[str, nn.Module], checkpoint: Path) -> None:
    """Puts a checkpoint's averaged weights into `modules`.

    Raises:
        WeightsError: There is no such checkpoint.
    """
    if not checkpoint.exists():
        raise WeightsError(
            f"{checkpoint} is missing. Run: python -m matchkit.pipelines.train_tiny --phase {checkpoint.stem}"
        )
    state = torch.load(checkpoint, weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["averages"][name])

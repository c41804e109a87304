"""Fitting a head: gradient steps on batches of pairs, seeded, resumable, best and last kept."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch
from tqdm import tqdm

from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import Trains
from matchkit.core.geometry import KeypointRuleName
from matchkit.core.interfaces import ReadsMaps
from matchkit.core.spec import FeatureSpec
from matchkit.heads.identity import RawLayer
from matchkit.heads.processes import MixedPrecision, Processes
from matchkit.heads.weights import HeadWeights, keep

CPU = torch.device("cpu")
log = logging.getLogger(__name__)
Batch = TypeVar("Batch")
Validate = Callable[[ReadsMaps], float]
Batches = Callable[[int], Iterator[Batch]]
Schedule = torch.optim.lr_scheduler.LRScheduler


@dataclass(frozen=True, slots=True)
class FitParams:
    """How a head is fitted; the defaults are those of the published aggregator.

    Attributes:
        steps: gradient steps.
        pairs: pairs a step.
        lr: AdamW's learning rate; the largest one of a schedule.
        weight_decay: AdamW's.
        schedule: `constant`; `one-cycle` over all steps: from lr / 25 in 30 % of them to lr, then to lr / 250,000,
            while the first beta goes from 0.95 to 0.85 and back; `linear-decay`: constant for half of the steps, then
            in a line to 0.
        mixed_precision: `no`, or the number type of the forward pass.
        validate_every: steps between validations; the last step is always validated.
        points: how keypoints become cells: `centre` honours pixel centres; `corner` is Diffusion Hyperfeatures' rule,
            `patch` GeoAware-SC's, `align-corners` SD4Match's.
        order_seed: of the order of the pairs.
    """

    steps: int = 5000
    pairs: int = 1
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "one-cycle", "linear-decay"] = "constant"
    mixed_precision: MixedPrecision = "no"
    validate_every: int = 1000
    points: KeypointRuleName = "centre"
    order_seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.pairs, self.validate_every) < 1:
            raise ConfigError("steps, pairs and validate_every must be at least 1")


@dataclass(frozen=True, slots=True)
class FitFiles:
    """Where a fit leaves its files: `best` is what scoring uses; `last` and `checkpoint` let it go on."""

    best: Path

    @property
    def last(self) -> Path:
        """The weights after the last step."""
        return self.best.with_name(f"{self.best.stem}.last.safetensors")

    @property
    def checkpoint(self) -> Path:
        """The state from which an interrupted fit resumes; gone when the fit is complete."""
        return self.best.with_name(f"{self.best.stem}.checkpoint.pt")

    @property
    def history(self) -> Path:
        """A JSON line a validation: step, mean loss since the last one, validation score."""
        return self.best.with_name(f"{self.best.stem}.history.jsonl")


def choose_layer(head: RawLayer, validate: Validate) -> tuple[RawLayer, float]:
    """The best of a raw layer's candidates on the validation pairs, with its score; the first one in a tie."""
    candidates = head.candidates()
    scores = [validate(candidate) for candidate in tqdm(candidates, desc="layers", unit="layer", disable=None)]
    best = max(range(len(scores)), key=scores.__getitem__)
    return candidates[best], scores[best]


class Fit(Generic[Batch]):
    """One fit of a trainable head; `run` starts it or takes it up where it stopped.

    Args:
        head: freshly built.
        name: in the table of heads.
        spec: of the features it is fitted on.
        params: how it is fitted.
        files: where its files go.
        about: what else identifies the fit (dataset, split, ...); a checkpoint of another fit is not taken up.
        device: where the head is.

    Attributes:
        processes: those that fit it together, this one among them.
    """

    def __init__(
        self,
        head: Trains[Batch],
        name: str,
        *,
        spec: FeatureSpec,
        params: FitParams,
        files: FitFiles,
        about: Mapping[str, Any],
        device: torch.device = CPU,
    ) -> None:
        self._head = head
        self._name = name
        self._spec = spec
        self._params = params
        self._files = files
        self._about = {**about, **asdict(params)}
        self.processes = Processes(mixed_precision=params.mixed_precision, device=device)
        groups = [group | {"lr": params.lr * group.pop("rate", 1.0)} for group in head.parameter_groups()]
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._optimiser = torch.optim.AdamW(groups, lr=params.lr, weight_decay=params.weight_decay)
        self._schedule = _schedule(self._optimiser, params)
        self._prepared = self.processes.prepared(self._optimiser)
        self._losses: list[float] = []
        self._history: list[dict[str, float]] = []
        self._best = float("-inf")

    @property
    def identity(self) -> str:
        """Digest of the head's configuration, the features' spec and the fit's parameters."""
        everything = {"head": self._head.config(), "spec": self._spec.digest(), "fit": self._about}
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:12]

    def run(self, batches: Batches[Batch], validate: Validate) -> float:
        """Fits the head and returns the best validation score; `batches(n)` yields batches from number n on."""
        start = self._resume()
        self._files.best.parent.mkdir(parents=True, exist_ok=True)
        progress = tqdm(total=self._params.steps, initial=start, desc=self._name, unit="step", disable=None)
        with progress:
            if start < self._params.steps:
                for step, batch in zip(range(start + 1, self._params.steps + 1), batches(start), strict=False):
                    self._losses.append(self._step(batch))
                    progress.update()
                    if step % self._params.validate_every == 0 or step == self._params.steps:
                        if self.processes.is_first:
                            self._validate(step, validate(self._head), progress)
                        self._best = self.processes.agreed(self._best)
        if self.processes.is_first:
            self._files.checkpoint.unlink(missing_ok=True)
        return self._best

    def _step(self, batch: Batch) -> float:
        with self.processes.forward():
            loss = self._head.loss(batch)["total"]
        self.processes.step(loss, self._prepared, self._parameters)
        if self._schedule:
            self._schedule.step()
        return float(loss.detach())

    def _validate(self, step: int, score: float, progress: "tqdm[Any]") -> None:
        loss = sum(self._losses) / len(self._losses)
        self._losses.clear()
        progress.set_postfix(loss=f"{loss:.3f}", validation=f"{score:.1f}")
        self._history.append({"step": step, "loss": round(loss, 6), "validation": round(score, 4)})
        self._files.history.write_text("".join(json.dumps(line) + "\n" for line in self._history))
        weights = self._weights(step, score)
        if score > self._best:
            self._best = score
            weights.save(self._files.best)
        weights.save(self._files.last)
        self._save_checkpoint(step)

    def _weights(self, step: int, score: float) -> HeadWeights:
        about = {**self._about, "identity": self.identity, "step": step, "validation": round(score, 4)}
        return keep(self._head, self._name, spec=self._spec, fit=about)

    def _save_checkpoint(self, step: int) -> None:
        state = {
            "identity": self.identity,
            "step": step,
            "best": self._best,
            "history": self._history,
            "head": self._head.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaling": self.processes.state_dict(),
            "schedule": self._schedule.state_dict() if self._schedule else {},
        }
        temporary = self._files.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._files.checkpoint)

    def _resume(self) -> int:
        """Takes up an interrupted fit of the same identity and returns its step; 0 starts afresh."""
        if self._files.checkpoint.exists():
            state = torch.load(self._files.checkpoint, weights_only=True, map_location="cpu")
            if state["identity"] == self.identity:
                self._head.load_state_dict(state["head"])
                self._optimiser.load_state_dict(state["optimiser"])
                self.processes.load_state_dict(state["scaling"])
                if self._schedule:
                    self._schedule.load_state_dict(state["schedule"])
                self._best, self._history = state["best"], state["history"]
                log.info("resuming %s at step %d", self._name, state["step"])
                return int(state["step"])
        return 0

    def completed(self) -> float | None:
        """The best validation score of a fit of this identity that has run to its end, or None."""
        if not (self._files.last.exists() and self._files.best.exists()):
            return None
        best, last = HeadWeights.load(self._files.best).fit, HeadWeights.load(self._files.last).fit
        if not best.get("identity") == last.get("identity") == self.identity or last["step"] != self._params.steps:
            return None
        return float(best["validation"])


def _schedule(optimiser: torch.optim.Optimizer, params: FitParams) -> Schedule | None:
    """None for a constant rate.

    A cycle is over exactly the steps of the fit: GeoAware-SC's released code counts one pair too few, and its last step
    but one fails.
    """
    if params.schedule == "one-cycle":
        rates = [group["lr"] for group in optimiser.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rates, total_steps=params.steps)
    if params.schedule == "linear-decay":
        half = params.steps / 2
        return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (params.steps - step) / half))
    return None

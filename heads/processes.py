"""The processes that fit a head together: one alone, or several that `accelerate launch` started.

Each takes its share of every batch, and the gradients are averaged before each step: what is fitted does not depend on
how many there are. (The published code of SD4Match never averages them, sd4match.md §3.4.)
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Literal

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list
from jaxtyping import Float

from matchkit.core.errors import ConfigError

MixedPrecision = Literal["no", "fp16", "bf16"]
PATIENCE = timedelta(hours=2)
"""How long the others wait for the first process, which validates alone."""


class Processes:
    """This process among them.

    Args:
        mixed_precision: the number type of the forward pass; parameters and the optimiser stay in fp32.
        device: where this process computes.

    Raises:
        ConfigError: this machine does not have that precision.
    """

    def __init__(self, *, mixed_precision: MixedPrecision, device: torch.device) -> None:
        try:
            self._accelerator = Accelerator(
                cpu=device.type == "cpu",
                device_placement=False,
                mixed_precision=mixed_precision,
                kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
            )
        except ValueError as error:
            raise ConfigError(f"mixed_precision {mixed_precision} on {device.type}: {error}") from error

    @property
    def share(self) -> tuple[int, int]:
        """This process's number, and how many there are."""
        return int(self._accelerator.process_index), int(self._accelerator.num_processes)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that validates and writes files."""
        return bool(self._accelerator.is_main_process)

    def forward(self) -> AbstractContextManager[None]:
        """In which the loss is computed."""
        return self._accelerator.autocast()  # type: ignore[no-any-return]

    def prepared(self, optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimiser as `step` takes it: under fp16 it skips steps whose gradient overflowed."""
        return self._accelerator.prepare_optimizer(optimiser, device_placement=False)  # type: ignore[no-any-return]

    def step(
        self, loss: Float[torch.Tensor, ""], optimiser: torch.optim.Optimizer, parameters: Iterable[torch.Tensor]
    ) -> None:
        """One step down the gradient of the mean loss of all processes."""
        optimiser.zero_grad(set_to_none=True)
        self._accelerator.backward(loss)
        if self._accelerator.num_processes > 1:
            for parameter in parameters:
                # where a share has nothing that moves a parameter, the others' gradients still count
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self._accelerator.reduce(own, reduction="mean")
        optimiser.step()

    def agreed(self, value: float) -> float:
        """What the first process says."""
        return float(broadcast_object_list([value])[0])

    def state_dict(self) -> dict[str, Any]:
        """The state of the gradients' scaling under fp16."""
        return dict(self._accelerator.scaler.state_dict()) if self._accelerator.scaler else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes that state back."""
        if self._accelerator.scaler:
            self._accelerator.scaler.load_state_dict(state)

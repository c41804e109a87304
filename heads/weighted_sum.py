"""A weighted sum over many inputs in the memory of a few: what a term needs for its gradient is computed again."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch.autograd.function import once_differentiable

Term = Callable[[torch.Tensor], torch.Tensor]


def weighted_sum(
    term: Term,
    inputs: Float[torch.Tensor, "b t _ _ _"],
    weights: Float[torch.Tensor, " t"],
    *,
    parameters: Sequence[torch.Tensor],
    together: int,
) -> Float[torch.Tensor, "b _ _ _"]:
    """`sum over t of weights[t] * term(inputs[:, t])`, with its gradient.

    Where there are more than `together` inputs, only so many are at work at any time: no term is kept for the
    gradient, each is computed again when its turn comes. On a CPU this is also the faster way, as long as what is at
    work stays in the cache.

    Args:
        term: takes (n,...) inputs to (n,d,h,w), each for itself.
        inputs: t for each of b sums.
        weights: one for each of t.
        parameters: all tensors on which `term` depends and into which the gradient flows.
        together: how many inputs are given to `term` at a time.
    """
    b, t = inputs.shape[:2]
    if b * t <= together or inputs.requires_grad:
        terms: torch.Tensor = term(inputs.flatten(0, 1)).unflatten(0, (b, t))
        return (terms * weights[:, None, None, None]).sum(1)
    total: torch.Tensor = _Recomputed.apply(term, inputs, weights, together, *parameters)  # type: ignore[no-untyped-call]
    return total


class _Recomputed(torch.autograd.Function):
    """The sum forward without a graph; backward, the graph of a few terms at a time."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - what torch hands in, it lets one keep anything
        term: Term,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        together: int,
        *parameters: torch.Tensor,
    ) -> torch.Tensor:
        ctx.term, ctx.together = term, together
        ctx.save_for_backward(inputs, weights, *parameters)
        sums = []
        for rows in inputs.split(together):
            first, *others = zip(rows.unbind(1), weights.tolist(), strict=True)
            total = term(first[0]).mul_(first[1])
            for x, weight in others:
                total.add_(term(x), alpha=weight)
            sums.append(total)
        return torch.cat(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401 - as above
        inputs, weights, *parameters = ctx.saved_tensors
        of_weights = torch.zeros_like(weights)
        of_parameters = [torch.zeros_like(parameter) for parameter in parameters]
        for rows, above in zip(inputs.split(ctx.together), gradient.split(ctx.together), strict=True):
            for step, (x, weight) in enumerate(zip(rows.unbind(1), weights.tolist(), strict=True)):
                with torch.enable_grad():
                    value = ctx.term(x)
                # the gradient is linear: the weight is put on the few parameters instead of on the map
                for total, part in zip(of_parameters, torch.autograd.grad(value, parameters, above), strict=True):
                    total.add_(part, alpha=weight)
                of_weights[step] += (value.detach() * above).sum()
        return None, None, of_weights, None, *of_parameters

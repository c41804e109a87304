"""A weighted sum of one bottleneck's descriptors over timesteps, in the memory of a few of them."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch.autograd.function import once_differentiable
from torch.nn import functional

from matchkit.heads.bottleneck import Bottleneck

AT_WORK = 8 << 20
"""Bytes of descriptor maps that are made at a time; with what they are made from they stay in a CPU's cache."""


def mixed(
    bottleneck: Bottleneck,
    maps: Float[torch.Tensor, "b t c gh gw"],
    shares: Float[torch.Tensor, " t"],
    *,
    grid: tuple[int, int],
    at_work: int = AT_WORK,
) -> Float[torch.Tensor, "b d h w"]:
    """`sum over t of shares[t] * bottleneck(maps[:, t])`, with its gradient.

    Where the descriptors of all maps are more than `at_work` bytes, they are made a few at a time. For the gradient
    only what the convolutions gave is kept, on the maps' own grid or narrow: at most a third of autograd's.
    On a CPU this is also the faster way, for what is at work stays in the cache.

    Args:
        bottleneck: the same for all timesteps.
        maps: of one layer.
        shares: one for each timestep.
        grid: (height, width) of the descriptor map in cells.
        at_work: bytes of descriptors that are made at a time, at least those of one map.
    """
    b, t = maps.shape[:2]
    together = max(1, at_work // (4 * bottleneck.conv3.out_channels * grid[0] * grid[1]))
    if b * t <= together or maps.requires_grad:
        terms: torch.Tensor = bottleneck(maps.flatten(0, 1), grid).unflatten(0, (b, t))
        return (terms * shares[:, None, None, None]).sum(1)
    parameters = bottleneck.parameters()
    total: torch.Tensor = _Mixed.apply(bottleneck, maps, shares, grid, together, *parameters)  # type: ignore[no-untyped-call]
    return total


class _Mixed(torch.autograd.Function):
    """The sum forward without a graph; backward, the graph of one timestep of a few images at a time."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - what torch hands in, it lets one keep anything
        bottleneck: Bottleneck,
        maps: torch.Tensor,
        shares: torch.Tensor,
        grid: tuple[int, int],
        together: int,
        *parameters: torch.Tensor,
    ) -> torch.Tensor:
        ctx.bottleneck, ctx.grid, ctx.together = bottleneck, grid, together
        ctx.save_for_backward(maps, shares, *parameters)  # so that torch notices if one is changed before backward
        ctx.kept = []
        sums = torch.zeros(len(maps), *grid, bottleneck.conv3.out_channels, device=maps.device).movedim(-1, 1)
        for rows, total in zip(maps.split(together), sums.split(together), strict=True):
            for x, share in zip(rows.unbind(1), shares.tolist(), strict=True):
                skip, narrow = bottleneck.project(x)
                inner = bottleneck.conv2.convolve(bottleneck.enter(narrow, grid))
                ctx.kept.append((skip, narrow, inner))
                total.add_(bottleneck.leave(inner, skip), alpha=share)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401 - as above
        maps, shares, *parameters = ctx.saved_tensors
        of_shares = torch.zeros_like(shares)
        of_parameters = [torch.zeros_like(parameter) for parameter in parameters]
        totals: dict[torch.Tensor, torch.Tensor] = dict(zip(ctx.bottleneck.parameters(), of_parameters, strict=True))
        kept = iter(ctx.kept)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        for rows, above in zip(maps.split(ctx.together), gradient.split(ctx.together), strict=True):
            for step, (x, share) in enumerate(zip(rows.unbind(1), shares.tolist(), strict=True)):
                term = _Term(ctx.bottleneck, *next(kept), grid=ctx.grid)
                # the gradient is linear: the share is put on the few parameters instead of on the map
                for parameter, part in term.gradients(x, above):
                    totals[parameter].add_(part, alpha=share)
                of_shares[step] += _cells(term.descriptors.detach()).flatten() @ _cells(above).flatten()
        return None, None, of_shares, None, None, *of_parameters


class _Term:
    """One bottleneck's pass, taken up again at what its convolutions gave."""

    def __init__(
        self,
        bottleneck: Bottleneck,
        skip: torch.Tensor,
        narrow: torch.Tensor,
        inner: torch.Tensor,
        *,
        grid: tuple[int, int],
    ) -> None:
        self._bottleneck = bottleneck
        self._skip, self._narrow, self._inner = (kept.detach().requires_grad_() for kept in (skip, narrow, inner))
        with torch.enable_grad():
            self._entered = bottleneck.enter(self._narrow, grid)
            self.descriptors = bottleneck.leave(self._inner, self._skip)

    def gradients(self, x: torch.Tensor, above: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every parameter with its gradient, from the maps `x` and the descriptors' gradient."""
        net = self._bottleneck
        last = [*net.conv2.norm.parameters(), *net.conv3.parameters()]
        if net.shortcut:
            last += net.shortcut.norm.parameters()
        of_skip, of_inner, *of_last = torch.autograd.grad(self.descriptors, [self._skip, self._inner, *last], above)
        yield from zip(last, of_last, strict=True)
        yield net.conv2.weight, _of_3x3(self._entered.detach(), of_inner)
        # the gradient of a 3x3 convolution's input is the convolution with the kernel turned round
        turned = net.conv2.weight.detach().flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        of_entered = functional.conv2d(of_inner, turned, padding=1)
        first = list(net.conv1.norm.parameters())
        of_narrow, *of_first = torch.autograd.grad(self._entered, [self._narrow, *first], of_entered)
        yield from zip(first, of_first, strict=True)
        values = _cells(x.float())
        yield net.conv1.weight, (_cells(of_narrow).T @ values)[..., None, None]
        if net.shortcut:
            yield net.shortcut.weight, (_cells(of_skip).T @ values)[..., None, None]


def _cells(maps: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b*h*w c"]:
    """The channels of every cell as a row: no copy for channels-last memory."""
    return maps.movedim(1, -1).flatten(0, 2)


def _of_3x3(x: Float[torch.Tensor, "b c h w"], above: Float[torch.Tensor, "b d h w"]) -> Float[torch.Tensor, "d c 3 3"]:
    """The gradient of a padded 3x3 convolution's kernel: three matrix products, one a row of the kernel.

    On a CPU, for channels-last memory, twice as fast as torch's own.
    """
    height, width = x.shape[-2:]
    padded = functional.pad(x.movedim(1, -1), (0, 0, 1, 1, 1, 1))
    columns = torch.cat([padded[:, :, left : left + width] for left in range(3)], -1)  # (b,h+2,w,3*c)
    of_cells = _cells(above).T
    rows = [of_cells @ columns[:, top : top + height].flatten(0, 2) for top in range(3)]
    kernel: torch.Tensor = torch.stack(rows, 1).unflatten(2, (3, -1))
    return kernel.permute(0, 3, 1, 2)

"""Where in the exemplar lies each cell of the condition: a softmax over all its cells, never written down.

The matrix of CoCosNet has (cells x cells) entries. A warp is that softmax times a payload, which is what an attention
call computes without keeping it: forwards and for gradients, a row block at a time. Only what has to see the matrix
itself (the best match, its probability, the entropy) makes it, in single precision and in row blocks: rounded to half
precision, one in ten of the best matches moves (CoCosNet §6.2).

Source: Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571), §3.1; CoCosNet §1.4.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from matchkit.core.similarity import unit

FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
"""The kernels that never hold the matrix; torch's plain one does, so it is not allowed."""
WIDEST = 256
"""Channels of keys up to which fused kernels are quick; they know no more in their tables."""
ROWS = 512
"""Rows of the matrix that are made at a time."""
NEAR = 1.5
"""Cells within which a match there and back counts as returned. Source: CoCosNet §6.2."""
REACH = 2
"""Cells each way from the best match that count for the place of a match between cells."""
Rows = Float[torch.Tensor, "b cells d"]
Values = Float[torch.Tensor, "b cells p"]


def centred(maps: Float[torch.Tensor, "b d gh gw"]) -> Rows:
    """A map as rows a cell, row-major, centred over the channels and at unit length.

    What all channels have in common, and how strong they are, does not count. Source: CoCosNet §1.4, `PONO_C`.
    """
    rows = maps.flatten(2).transpose(1, 2).contiguous()
    return unit(rows - rows.mean(2, keepdim=True))


@dataclass(frozen=True, slots=True)
class Best:
    """The best match of each of n cells: the other side's flat cell, and its probability."""

    cells: Int[torch.Tensor, "b n"]
    probability: Float[torch.Tensor, "b n"]


@dataclass(frozen=True, slots=True)
class Match:
    """The match of a condition with an exemplar, of each sample of a batch.

    Attributes:
        queries: of the condition's cells, row-major, from `centred`.
        keys: of the exemplar's cells.
        grid: (height, width) in cells, of both.
        temperature: of the softmax.
    """

    queries: Rows
    keys: Rows
    grid: tuple[int, int]
    temperature: float

    def warp(self, payload: Float[torch.Tensor, "b p gh gw"]) -> Float[torch.Tensor, "b p gh gw"]:
        """What the exemplar has, where the condition wants it."""
        return _attend(self.queries, self.keys, payload, self.temperature)

    def back(self, payload: Float[torch.Tensor, "b p gh gw"]) -> Float[torch.Tensor, "b p gh gw"]:
        """What the condition has, where the exemplar has its like: `back(warp(y))` is y's cycle."""
        return _attend(self.keys, self.queries, payload, self.temperature)

    def matrix(self) -> Float[torch.Tensor, "b cells cells"]:
        """All cosines at once, in single precision: only for a look at small grids."""
        return self.queries.float() @ self.keys.float().transpose(1, 2)

    def best(self) -> Best:
        """The exemplar's most similar cell for each of the condition's, and its probability."""
        return _best(self.queries, self.keys, self.temperature)

    def best_back(self) -> Best:
        """The condition's most similar cell for each of the exemplar's, and its probability."""
        return _best(self.keys, self.queries, self.temperature)

    def entropy(self) -> Float[torch.Tensor, "b gh gw"]:
        """Of each cell's probabilities, in nats: 0 where there is one match, ln(cells) where all are alike."""
        rows = []
        for logits in _logits(self.queries, self.keys, self.temperature):
            shares = logits.log_softmax(2)
            rows.append(-(shares.exp() * shares).sum(2))
        entropies: torch.Tensor = torch.cat(rows, 1).unflatten(1, self.grid)
        return entropies

    def returned(self) -> Bool[torch.Tensor, "b gh gw"]:
        """Which cells' best match has its own best match within `NEAR` cells of them."""
        there, back = self.best().cells, self.best_back().cells
        again = back.gather(1, there)
        own = torch.arange(again.shape[1], device=again.device)
        away = torch.stack([again % self.grid[1] - own % self.grid[1], again // self.grid[1] - own // self.grid[1]])
        near: torch.Tensor = (torch.linalg.vector_norm(away.float(), dim=0) <= NEAR).unflatten(1, self.grid)
        return near

    def confidence(self) -> Float[torch.Tensor, "b gh gw"]:
        """The probability of the best match where it returns, 0 where it does not. Source: CoCosNet §6.2."""
        probability: torch.Tensor = self.best().probability.unflatten(1, self.grid)
        return probability * self.returned()

    def places(self) -> Float[torch.Tensor, "b 2 gh gw"]:
        """Where in the exemplar each cell's match lies, (x, y) in its grid frame, finer than a cell.

        The expected place under the softmax of the cells within `REACH` of the most similar one, each way.
        """
        columns = torch.arange(self.grid[0] * self.grid[1], device=self.keys.device)
        xs, ys = (columns % self.grid[1]).float(), (columns // self.grid[1]).float()
        rows = []
        for logits in _logits(self.queries, self.keys, self.temperature):
            peak = logits.argmax(2)
            away = torch.maximum((xs - xs[peak][..., None]).abs(), (ys - ys[peak][..., None]).abs())
            shares = logits.masked_fill(away > REACH, float("-inf")).softmax(2)
            rows.append(torch.stack([shares @ xs, shares @ ys], 1))
        found: torch.Tensor = torch.cat(rows, 2).unflatten(2, self.grid)
        return found


def _attend(
    queries: Rows, keys: Rows, payload: Float[torch.Tensor, "b p gh gw"], temperature: float
) -> Float[torch.Tensor, "b p gh gw"]:
    values = payload.flatten(2).transpose(1, 2).to(keys.dtype)
    attended = (_by_blocks if keys.shape[2] > WIDEST else _fused)(queries, keys, values, temperature)
    result: torch.Tensor = attended.transpose(1, 2).unflatten(2, payload.shape[2:])
    return result


def _fused(queries: Rows, keys: Rows, values: Values, temperature: float) -> Values:
    """Fused kernels take values as wide as the keys: a payload is cut up and filled up to that."""
    width = keys.shape[2]
    parts = math.ceil(values.shape[2] / width)
    filled = functional.pad(values, (0, parts * width - values.shape[2]))
    # each part is a head of its own, with the same queries and keys
    heads = filled.unflatten(2, (parts, width)).transpose(1, 2).contiguous()
    asked, known = (rows[:, None].expand(-1, parts, -1, -1) for rows in (queries, keys))
    with sdpa_kernel(FUSED):
        attended = functional.scaled_dot_product_attention(asked, known, heads, scale=1 / temperature)
    joined: torch.Tensor = attended.transpose(1, 2).flatten(2)[..., : values.shape[2]]
    return joined


def _by_blocks(queries: Rows, keys: Rows, values: Values, temperature: float) -> Values:
    """For keys too wide for a fused kernel, as those of 3x3 cells: blocks of rows, made anew for their gradient."""

    def warped(block: Rows) -> Values:
        return (block @ keys.transpose(1, 2) / temperature).softmax(2) @ values

    blocks = [
        checkpoint(warped, block, use_reentrant=False, preserve_rng_state=False) for block in queries.split(ROWS, dim=1)
    ]
    return torch.cat(blocks, 1)


def _logits(queries: Rows, keys: Rows, temperature: float) -> Iterator[Float[torch.Tensor, "b _ cells"]]:
    """The rows of the matrix over the temperature, a block at a time."""
    for block in queries.float().split(ROWS, dim=1):
        yield block @ keys.float().transpose(1, 2) / temperature


def _best(queries: Rows, keys: Rows, temperature: float) -> Best:
    cells, probability = [], []
    for logits in _logits(queries, keys, temperature):
        greatest, where = logits.max(2)
        cells.append(where)
        probability.append((greatest - logits.logsumexp(2)).exp())
    return Best(torch.cat(cells, 1), torch.cat(probability, 1))

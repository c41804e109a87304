"""A photograph's distorted copy: which cell of it is which is known.

Maps are distorted on their grids, not extracted again: a small turn, zoom and shift, without a flip, which would
exchange left and right.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional

from matchkit.core.exemplar_batches import PARTS, Photographs

TURN = 0.35
"""Radians by which a copy is turned, at most."""
ZOOM = 0.3
"""Logarithm of the factor by which it is zoomed, at most."""
SHIFT = 0.3
"""By how much of half the picture it is moved each way, at most."""
MOST = (TURN, ZOOM, SHIFT, SHIFT)
Affine = Float[torch.Tensor, "b 2 3"]


def draw_distortions(count: int, draw: torch.Generator) -> Affine:
    """Where each copy takes its values from: an affine map of (x, y) in [-1, 1] from the copy to the photograph."""
    turn, zoom, right, down = (torch.rand(4, count, generator=draw) * 2 - 1) * torch.tensor(MOST)[:, None]
    cosine, sine = turn.cos() * zoom.exp(), turn.sin() * zoom.exp()
    rows = torch.stack([cosine, -sine, right, sine, cosine, down], 1)
    affine: torch.Tensor = rows.unflatten(1, (2, 3))
    return affine


def distorted(photographs: Photographs, affine: Affine, chosen: Bool[torch.Tensor, " b"]) -> Photographs:
    """Copies of the chosen photographs; the others are as they were."""
    identity = torch.eye(2, 3).expand_as(affine)
    theta = torch.where(chosen.cpu()[:, None, None], affine, identity)

    def moved(values: torch.Tensor, *, mode: str = "bilinear") -> torch.Tensor:
        if not values.numel():
            return values
        flat = values.flatten(1, -3) if values.dim() == 5 else values  # timesteps beside channels
        at = functional.affine_grid(theta.to(flat), list(flat.shape), align_corners=False)
        sampled = functional.grid_sample(flat, at, mode=mode, padding_mode="border", align_corners=False)
        return torch.where(chosen.to(flat.device).view(-1, 1, 1, 1), sampled, flat).view(values.shape)

    return replace(
        photographs,
        maps={layer: moved(values.float()) for layer, values in photographs.maps.items()},
        condition=moved(photographs.condition, mode="nearest")
        if photographs.condition.shape[1]
        else photographs.condition,
        payloads={
            name: moved(values, mode="nearest" if name == PARTS else "bilinear")
            for name, values in photographs.payloads.items()
        },
    )


def cells_in_copy(
    affine: Affine, grid: tuple[int, int]
) -> tuple[Int[torch.Tensor, "b cells"], Bool[torch.Tensor, "b cells"]]:
    """In which cell of its copy each cell of a photograph lies, and whether it lies within it at all."""
    height, width = grid
    size = torch.tensor([width, height])
    every = torch.arange(height * width)
    places = (torch.stack([every % width, every // width], 1) + 0.5) / size * 2 - 1
    linear, shift = affine[:, :, :2], affine[:, :, 2]
    copied = torch.linalg.solve(linear, (places - shift[:, None]).transpose(1, 2)).transpose(1, 2)
    cells = ((copied + 1) * size / 2 - 0.5).round().long()
    inside = ((cells >= 0) & (cells < size)).all(2)
    kept = cells.clamp_min(0).minimum(size - 1)
    return kept[..., 1] * width + kept[..., 0], inside

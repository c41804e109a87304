"""Phase 3: the ViT, trained to find a surface point of an object again in another view of it.

Not self-supervised as DINOv2 is: the renderer knows which surface point each patch sees, and that is the supervision
(dense object nets, Florence et al. 2018, with the InfoNCE loss of van den Oord et al. 2018). Half of the views are
recoloured, each on its own, so that shape must tell.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from matchkit.extract.backbones.tiny.architecture import Vit
from matchkit.pipelines.train_tiny.loop import Phase
from matchkit.pipelines.train_tiny.renders import Renders

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which DINOv2's processor also subtracts and divides by; colours in [0, 1]."""

TEMPERATURE = 0.07
SPREAD = 0.08
"""Object units (an object's radius is 1, a patch sees about 0.2): how fast a neighbour's share falls off."""
REACH = 0.2
"""Object units: cells further apart than this are no positives at all."""

RECOLOURED = 0.5
"""Share of the views whose colours are changed."""


def vit_phase(vit: Vit, renders: Renders, *, pairs: int = 8) -> Phase:
    """The ViT on pairs of views; `correspondence_loss` on the tokens after the last block, before the norm."""
    surface = torch.from_numpy(np.array(renders.surface)).flatten(1, 2)
    category = torch.from_numpy(renders.category)

    def loss(generator: torch.Generator) -> Mapping[str, Tensor]:
        chosen = torch.randint(len(category) // 2, (pairs,), generator=generator)
        rows = torch.stack([2 * chosen, 2 * chosen + 1]).flatten()
        pixels = torch.from_numpy(np.stack([renders.images[int(row)] for row in rows])).permute(0, 3, 1, 2)
        output = vit(normalise(_recoloured(pixels.float() / 255, generator)), output_hidden_states=True)
        tokens = output.hidden_states[-1][:, 1:]
        first, second = torch.nn.functional.normalize(tokens, dim=-1).split(pairs)
        seen, again = surface[rows].split(pairs)
        there, found = correspondence_loss(first, second, surfaces=(seen, again), category=category[2 * chosen])
        back, found_back = correspondence_loss(second, first, surfaces=(again, seen), category=category[2 * chosen])
        return {"total": (there + back) / 2, "found": (found + found_back) / 2}

    return Phase(name="vit", modules={"vit": vit}, loss=loss, batch=2 * pairs, learning_rate=1e-3, average=0.995)


def normalise(colours: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Colours in [0, 1] to what the ViT expects."""
    return (colours - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


def correspondence_loss(
    tokens: Float[Tensor, "p n d"],
    others: Float[Tensor, "p n d"],
    *,
    surfaces: tuple[Float[Tensor, "p n 3"], Float[Tensor, "p n 3"]],
    category: Int64[Tensor, " p"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """InfoNCE from every object cell of one view to the cells of the other that see the same surface.

    Args:
        tokens: Unit descriptors of the first views' cells.
        others: Those of the second views' cells.
        surfaces: The object-space points that the cells see, object units; NaN on the background.
        category: Of each pair. Cells of *other* objects of the same category are left out, neither positive nor
            negative: the same part of another dog should look alike.

    Returns:
        The loss in nats, and the share of cells whose most similar cell within the other view is a positive.
    """
    count, cells, width = tokens.shape
    distance = torch.cdist(surfaces[0].nan_to_num(nan=1e3), surfaces[1].nan_to_num(nan=-1e3))
    valid = (distance < REACH).any(-1)
    owner = valid.nonzero()[:, 0]
    near = distance[valid] < REACH
    weight = torch.where(near, torch.exp(-0.5 * (distance[valid] / SPREAD).square()), 0.0)
    shares = weight / weight.sum(-1, keepdim=True)
    similar = (tokens[valid] @ others.reshape(-1, width).T / TEMPERATURE).view(-1, count, cells)
    own = similar[torch.arange(len(owner)), owner]
    hidden = (category[:, None] == category[None, :]) & ~torch.eye(count, dtype=torch.bool)
    everywhere = similar.masked_fill(hidden[owner][..., None], float("-inf")).flatten(1).logsumexp(-1)
    loss = ((everywhere + own.logsumexp(-1)) / 2 - (shares * own).sum(-1)).mean()
    found = near.gather(-1, own.argmax(-1, keepdim=True)).float().mean()
    return loss, found


def _recoloured(colours: Float[Tensor, "b 3 h w"], generator: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Mixes the channels of some of the views at random, and changes their brightness and contrast."""
    count = len(colours)
    mix = torch.eye(3) + 0.3 * torch.randn(count, 3, 3, generator=generator)
    mix = mix / mix.sum(-1, keepdim=True).abs().clamp_min(0.5)
    mean = colours.mean(dim=(2, 3), keepdim=True)
    contrast = torch.empty(count, 1, 1, 1).uniform_(0.6, 1.4, generator=generator)
    shift = torch.empty(count, 3, 1, 1).uniform_(-0.15, 0.15, generator=generator)
    mixed = torch.einsum("bij,bjhw->bihw", mix, colours - mean)
    changed = (mixed * contrast + mean + shift).clamp(0, 1)
    return torch.where(torch.rand(count, 1, 1, 1, generator=generator) < RECOLOURED, changed, colours)

"""The Conditional Prompting Module: a prompt that is made from what a second network sees of both images of a pair.

Source: Li et al., SD4Match, CVPR 2024 (arXiv 2310.17569), as released: `Pair-DINO-Feat-G25-C50`.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

Formula = Literal["code", "paper"]
"""How weight and position are put on the pooled tokens; the released code and the paper's figure differ."""


class ConditionalPrompting(nn.Module):
    """Global tokens that are learnt, and tokens conditioned on a pair of images: `(theta_global, theta_cond)`.

    `theta_cond = tanh(omega_alpha) * (omega_pos + pooled)` in the code, `pooled * omega_alpha + omega_pos` in the
    paper's figure. There is nothing between the two linear layers. The module knows the source from the target.

    Args:
        channels: of what is seen of an image, in each of its cells.
        cells: that are seen of an image.
        width: of a token.
        global_tokens: how many are the same for all pairs.
        conditional_tokens: how many depend on the pair.
        formula: of the conditional tokens.
    """

    def __init__(
        self,
        *,
        channels: int,
        cells: int,
        width: int,
        global_tokens: int,
        conditional_tokens: int,
        formula: Formula,
    ) -> None:
        super().__init__()
        self._formula = formula
        self.theta_global = nn.Parameter(torch.rand(global_tokens, width))
        self.omega_pos = nn.Parameter(torch.rand(conditional_tokens, width))
        self.omega_alpha = nn.Parameter(torch.rand(conditional_tokens, width))
        self.g_d = nn.Linear(2 * channels, width)
        self.g_n = nn.Linear(cells, cells)

    def forward(
        self, source: Float[torch.Tensor, "b cells c"], target: Float[torch.Tensor, "b cells c"]
    ) -> Float[torch.Tensor, "b n d"]:
        """The tokens of each pair, from what is seen of its images."""
        seen: torch.Tensor = self.g_n(self.g_d(torch.cat([source, target], 2)).mT)  # (b,d,cells)
        pooled = functional.adaptive_max_pool1d(seen, len(self.omega_pos)).mT
        if self._formula == "code":
            conditional = self.omega_alpha.tanh() * (self.omega_pos + pooled)
        else:
            conditional = pooled * self.omega_alpha + self.omega_pos
        return torch.cat([self.theta_global.expand(len(source), -1, -1), conditional], 1)

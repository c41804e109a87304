"""What the post-processors learn from: a contrastive loss between keypoints, and the flow's end-point error.

Source: Zhang et al., Telling Left from Right, CVPR 2024 (arXiv 2311.17034).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import BatchPair, PairBatch
from matchkit.core.similarity import unit
from matchkit.heads.losses import contrastive, end_point_error, self_contrast


@dataclass(frozen=True, slots=True)
class KeypointLossParams:
    """Parameters of the losses; the defaults are the published ones.

    Attributes:
        temperature: of the soft-argmax in training.
        noise: of the flow that is learnt: two standard deviations, as a part of the target's longer side.
        sparse: weight of the contrastive loss between keypoints.
        dense: weight of the flow's end-point error.
        self_contrast: weight of the loss that likens a cell to its neighbours; published training leaves it off.
    """

    temperature: float = 0.02
    noise: float = 0.1
    sparse: float = 1.0
    dense: float = 1.0
    self_contrast: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature <= 0 or min(self.noise, self.sparse, self.dense, self.self_contrast) < 0:
            raise ConfigError("temperature must be above 0; noise and the weights of losses must not be negative")
        if not self.sparse + self.dense:
            raise ConfigError("sparse and dense are both 0: there is nothing to learn from keypoints")


class KeypointLoss:
    """The loss of a batch's descriptor maps.

    Args:
        params: of the losses.
        scale: the learnt factor of the cosines in the contrastive loss.
        draw: the generator of the noise, for this batch alone.
    """

    def __init__(self, params: KeypointLossParams, *, scale: Float[torch.Tensor, ""], draw: torch.Generator) -> None:
        self._params = params
        self._scale = scale
        self._draw = draw

    def __call__(
        self, descriptors: Float[torch.Tensor, "b d gh gw"], batch: PairBatch
    ) -> dict[str, Float[torch.Tensor, ""]]:
        """Means over the batch's pairs: `sparse` between keypoints, `dense` of the flow in cells, `variants`, `total`.

        A pair's variants are learnt from the flow alone, where that counts at all, and the pair's own loss and theirs
        are averaged by weight. Source: GeoAware-SC §3.2.
        """
        params = self._params
        rows = unit(descriptors.movedim(1, -1).flatten(1, 2))
        own, others, totals = [], [], []
        for pair in batch.pairs:
            sparse, dense = self._sparse(rows, pair), self._dense(rows, pair, batch.grid)
            total, weights = params.sparse * sparse + params.dense * dense, pair.weight
            for variant in pair.variants:
                one = params.dense * self._dense(rows, variant, batch.grid)
                if not params.dense:
                    one = params.sparse * self._sparse(rows, variant)
                total, weights = total + variant.weight * one, weights + variant.weight
                others.append(one)
            own.append(torch.stack([sparse, dense]))
            totals.append(total / weights)
        terms = dict(zip(("sparse", "dense"), torch.stack(own).mean(0), strict=True))
        if others:
            terms["variants"] = torch.stack(others).mean()
        terms["total"] = torch.stack(totals).mean()
        if params.self_contrast:
            terms["self_contrast"] = self_contrast(descriptors, draw=self._draw)
            terms["total"] = terms["total"] + params.self_contrast * terms["self_contrast"]
        return terms

    def _sparse(self, rows: Float[torch.Tensor, "b cells d"], pair: BatchPair) -> Float[torch.Tensor, ""]:
        at_source = rows[pair.source][pair.source_cells.to(rows.device)]
        at_target = rows[pair.target][pair.target_cells.to(rows.device)]
        return contrastive(at_source, at_target, self._scale)

    def _dense(
        self, rows: Float[torch.Tensor, "b cells d"], pair: BatchPair, grid: tuple[int, int]
    ) -> Float[torch.Tensor, ""]:
        cells = pair.source_cells.to(rows.device)
        flow = pair.target_points - pair.source_points
        flow = flow + torch.randn(flow.shape, generator=self._draw) * (self._params.noise * pair.target_side / 2)
        return end_point_error(
            *(rows[pair.source][cells], rows[pair.target], flow.to(rows), cells),
            grid=grid,
            temperature=self._params.temperature,
        )

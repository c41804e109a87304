"""Pseudo exemplars: photographs whose translation is known."""

from collections.abc import Callable
from dataclasses import replace

import torch

from matchkit.core.exemplar_batches import LATENT, PHOTO, ExemplarBatch, Photographs
from matchkit.heads.cross_domain.matching import Match
from matchkit.heads.cross_domain.pseudo import dressed, never_itself

Draw = Callable[..., Photographs]


def test_an_exemplar_that_is_its_own_target_is_distorted(photographs: Draw) -> None:
    targets, exemplars = photographs(["a", "b"]), photographs(["a", "c"], seed=1)
    batch = ExemplarBatch(targets, exemplars, torch.tensor([True, True]))
    found = never_itself(batch, torch.Generator().manual_seed(0))
    assert not torch.allclose(found.payloads[PHOTO][0], exemplars.payloads[PHOTO][0])
    assert torch.equal(found.payloads[PHOTO][1], exemplars.payloads[PHOTO][1])
    others = replace(batch, exemplars=photographs(["d", "c"], seed=1))
    assert never_itself(others, torch.Generator()) is others.exemplars


def test_a_dressed_exemplar_has_its_targets_looks_where_it_has_their_like(photographs: Draw) -> None:
    exemplars, targets = photographs(["a", "b"]), photographs(["c", "d"], seed=1)
    size = exemplars.payloads[LATENT].shape[2:]
    rows = torch.eye(size.numel()).expand(2, -1, -1)
    back = Match(rows, rows.flip(1), (size[0], size[1]), 0.001)  # each cell with the one opposite
    found = dressed(exemplars, targets, back, payloads=(LATENT,), chosen=torch.tensor([True, False]))
    torch.testing.assert_close(found.payloads[LATENT][0], targets.payloads[LATENT][0].flip(1, 2))
    assert torch.equal(found.payloads[LATENT][1], exemplars.payloads[LATENT][1])
    assert found.payloads[PHOTO] is exemplars.payloads[PHOTO]
    assert found.maps is exemplars.maps

"""Conditions and exemplars to pictures with a head: what is warped, how sure, and what is made of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import LATENT, PHOTO, Photographs
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.extract.backbones.latent_decoder import LatentDecoder
from matchkit.heads.cross_domain.generator import GeneratorParams
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.payloads import warped_payload
from matchkit.heads.cross_domain.settings import CrossDomainParams
from matchkit.heads.cross_domain.translator import Translator
from matchkit.heads.cross_domain.translator_settings import TranslatorParams
from matchkit.pipelines.translating import Translating, Translation, from_signed

CPU = torch.device("cpu")
SPEC = FeatureSpec("pixels", "none", (LayerSpec("rgb", 6, (4, 4)),), (0,), (32, 32), "stretch", "fp32")
MATCHER: dict[str, Any] = {"channels": 3, "side": 16, "grid": 8, "width": 8, "out": 8, "temperature": 0.05}
PLAN = GeneratorParams(width=4, ups=2, middle=1, attention=False, modulation=4)


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


CONDITION = drawn(2, 3, 16, 16, seed=0)
EXEMPLARS = Photographs(
    ids=("a", "b"),
    maps={"rgb": drawn(2, 1, 6, 4, 4, seed=1)},
    condition=torch.zeros(2, 0, 1, 1),
    payloads={PHOTO: drawn(2, 3, 16, 16, seed=2), LATENT: drawn(2, 4, 8, 8, seed=3)},
)


def painter(**changes: Any) -> Translator:
    told = {"matcher": MATCHER, "generator": PLAN, "base": False, "same": 1.0}
    return Translator(TranslatorParams(**(told | changes)), spec=SPEC)


def run(head: CrossDomain | Translator, latents: LatentDecoder | None = None) -> Translation:
    return Translating(head, latents=latents, device=CPU)(CONDITION, EXEMPLARS)


def test_a_head_that_only_matches_shows_the_warp() -> None:
    found = run(CrossDomain(CrossDomainParams(**MATCHER), spec=SPEC))
    expected = warped_payload(found.match, EXEMPLARS.payloads[PHOTO]) / 2 + 0.5
    assert torch.equal(found.warp, expected)
    assert torch.equal(found.picture, found.warp)
    assert torch.equal(found.confidence, found.match.confidence())
    assert found.confidence.shape == (2, 8, 8)
    assert not found.warp.requires_grad


def test_a_translator_paints_the_photograph() -> None:
    head = painter()
    found = run(head)
    assert torch.equal(found.warp, run(head.matcher).warp)
    assert torch.equal(found.picture, from_signed(head.paint(CONDITION, EXEMPLARS).made))
    assert not torch.allclose(found.picture, found.warp, atol=1e-3)


def test_latents_are_decoded(sd_folder: Path) -> None:
    head, decoder = painter(paints=LATENT, channels=4), LatentDecoder(str(sd_folder), device=CPU)
    found = run(head, decoder)
    assert found.picture.shape == (2, 3, 16, 16)
    assert torch.equal(found.picture, decoder.decode(head.paint(CONDITION, EXEMPLARS).made))


def test_latents_without_a_vae_are_refused() -> None:
    with pytest.raises(ConfigError, match="paints latents and is given no VAE"):
        Translating(painter(paints=LATENT, channels=4), latents=None, device=CPU)


def test_a_network_that_learned_before_is_put_into_evaluation() -> None:
    head = CrossDomain(CrossDomainParams(**MATCHER), spec=SPEC)
    head.network.train()
    run(head)
    assert not any(module.training for module in head.network.modules())


def test_what_is_painted_beyond_is_cut_off() -> None:
    values = torch.tensor([-1.5, -1.0, 0.0, 1.0, 2.0]).view(1, 1, 1, 5)
    assert from_signed(values).flatten().tolist() == [0, 0, 0.5, 1, 1]

"""Stable Diffusion behind a head: what it is given, and when it may match again."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import LATENT, PHOTO, Photographs
from matchkit.core.spec import FeatureSpec
from matchkit.extract.backbones.sd_noise import SDNoise, SDNoiseParams
from matchkit.extract.backbones.sd_translation import SDTranslation, SDTranslationParams
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.matching import Match
from matchkit.heads.cross_domain.payloads import warped_payload
from matchkit.heads.cross_domain.settings import CrossDomainParams
from matchkit.pipelines.exemplar_inputs import ShownExemplar
from matchkit.pipelines.sd_translator import SDTranslator, on_latent, rematching

CPU = torch.device("cpu")
LAYER = "up2.0"


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@cache
def spec_of(folder: Path) -> FeatureSpec:
    told = SDNoiseParams(weights=str(folder), layers=(LAYER,), hook="residual", timesteps=(500,))
    return SDNoise(told, device=CPU).spec


def head_of(spec: FeatureSpec, **changes: Any) -> CrossDomain:
    told: dict[str, Any] = {"side": 16, "grid": 8, "width": 8, "out": 8, "temperature": 1e-4}
    return CrossDomain(CrossDomainParams(**(told | changes)), spec=spec)


def exemplars(spec: FeatureSpec) -> Photographs:
    layer = spec.layers[0]
    maps = {layer.name: drawn(1, 1, layer.channels, *layer.grid, seed=1)}
    payloads = {PHOTO: drawn(1, 3, 16, 16, seed=2), LATENT: drawn(1, 4, 8, 8, seed=3)}
    return Photographs(("cat/a",), maps, torch.zeros(1, 0, 1, 1), payloads)


def params_of(folder: Path, **changes: Any) -> SDTranslationParams:
    return SDTranslationParams(**({"weights": str(folder), "steps": 4, "layers": (LAYER,)} | changes))


def test_it_is_given_what_is_warped(sd_folder: Path) -> None:
    spec, params = spec_of(sd_folder), params_of(sd_folder)
    head, photographs, condition = head_of(spec), exemplars(spec), drawn(1, 3, 16, 16)
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        match = head.match(condition, photographs)
        translate = SDTranslator(params, head, spec=spec, filling=None, device=CPU)
        found = translate(condition, ShownExemplar(photographs, picture), match, drawn=picture)
        warped = warped_payload(match, photographs.payloads[LATENT])
        expected = SDTranslation(params, device=CPU)(warped, match.confidence(), ["cat/a"])
    assert torch.equal((found * 255).round().byte(), expected.pictures.permute(0, 3, 1, 2))


def test_confidence_of_a_coarser_and_of_a_finer_latent() -> None:
    values = torch.tensor([[1.0, 0.0], [0.5, 0.5]])[None]
    assert on_latent(values, torch.zeros(1, 4, 1, 1)).item() == 0.5
    assert (
        on_latent(values, torch.zeros(1, 4, 4, 4))[0].tolist()
        == values[0].repeat_interleave(2, 0).repeat_interleave(2, 1).tolist()
    )


@torch.no_grad()
def test_matching_again_what_is_the_exemplar_itself(sd_folder: Path) -> None:
    """Its own maps lead back to it everywhere; shifted ones bring its latent shifted."""
    spec = spec_of(sd_folder)
    photographs = exemplars(spec)
    own = photographs.maps[LAYER][:, 0]
    rematch = rematching(head_of(spec, grid=own.shape[2], side=16), photographs)
    latents, accepted = rematch(500, drawn(1, 4, 8, 8, seed=9), {LAYER: own, "up0.0": drawn(1, 2, 1, 1)})
    assert accepted.all()
    assert torch.allclose(latents, photographs.payloads[LATENT], atol=1e-4)
    turned, _ = rematch(500, drawn(1, 4, 8, 8, seed=9), {LAYER: own.flip(3)})
    assert not torch.allclose(turned, latents, atol=0.1)


@torch.no_grad()
def test_another_timestep_is_told_of(sd_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = spec_of(sd_folder)
    photographs = exemplars(spec)
    rematch = rematching(head_of(spec), photographs)
    rematch(500, drawn(1, 4, 8, 8), {LAYER: photographs.maps[LAYER][:, 0]})
    assert not caplog.text
    rematch(251, drawn(1, 4, 8, 8), {LAYER: photographs.maps[LAYER][:, 0]})
    assert "matching again at timestep 251 with a head that was fitted at 500" in caplog.text


def test_matching_again_in_a_run(sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(sd_folder)
    head, photographs, condition = head_of(spec), exemplars(spec), drawn(1, 3, 16, 16)
    asked: list[Match] = []
    returned = Match.returned

    def counted(self: Match) -> torch.Tensor:
        asked.append(self)
        return returned(self)

    monkeypatch.setattr(Match, "returned", counted)
    with torch.no_grad():
        match = head.match(condition, photographs)
        shown = ShownExemplar(photographs, torch.rand(1, 3, 16, 16))
        pictures = []
        for interleave in (0, 2):
            params = params_of(sd_folder, interleave=interleave, guidance=1.0)
            asked.clear()
            translate = SDTranslator(params, head, spec=spec, filling=None, device=CPU)
            pictures.append(translate(condition, shown, match, drawn=shown.picture))
            assert len(asked) == 1 + interleave  # once for the confidence
    assert not torch.equal(*pictures)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layers": ("up1.0",)}, "of its layers up2.0 are not handed over at that size"),
        ({"hook": "output"}, "at the hook 'residual', not at 'output'"),
        ({"input_size": 32}, "of its layers up2.0 are not handed over at that size"),
    ],
)
def test_a_head_of_other_maps_cannot_match_again(sd_folder: Path, changes: dict[str, Any], reason: str) -> None:
    spec = spec_of(sd_folder)
    params = params_of(sd_folder, interleave=1, **changes)
    with pytest.raises(ConfigError, match=rf"{reason}\. Fit one on features of sd-noise"):
        SDTranslator(params, head_of(spec), spec=spec, filling=None, device=CPU)


def test_a_head_of_photographs_cannot_match_again(sd_folder: Path) -> None:
    spec = spec_of(sd_folder)
    with pytest.raises(ConfigError, match="it sees the photographs themselves"):
        SDTranslator(
            params_of(sd_folder, interleave=1), head_of(spec, photo_side=16), spec=spec, filling=None, device=CPU
        )

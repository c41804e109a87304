"""One condition after one exemplar: the pictures that are written, by every translator, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.exemplar_batches import LATENT
from matchkit.extract.backbones.latent_decoder import LatentDecoder
from matchkit.heads import HEADS
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.translator import Translator
from matchkit.heads.weights import HeadWeights, keep
from matchkit.pipelines.fit_exemplars import FitExemplarsParams, open_stores
from matchkit.pipelines.picture_sheet import as_bytes
from matchkit.pipelines.translate import Translated, translate
from matchkit.pipelines.translating import Translating, Translation

CPU = torch.device("cpu")
FIT = {"dataset": "folder", "features": "maps", "conditions": "mask", "photos": "photos", "latents": "latents"}
MATCHER: dict[str, Any] = {"kind": "mask", "channels": 3, "side": 16, "grid": 8, "width": 8, "out": 8}
PAINTER: dict[str, Any] = {
    "matcher": MATCHER,
    "generator": {"width": 4, "ups": 2, "middle": 1, "attention": False, "modulation": 4},
    "base": False,
}


def fitted(name: str, head: str, told: dict[str, Any], **fit: object) -> CrossDomain | Translator:
    """A head as it begins, kept where a fit would keep it."""
    spec = FeatureStore.open("features/folder/maps.zarr").spec
    made: CrossDomain | Translator = HEADS.build(head, told, where="here", spec=spec)
    keep(made, head, spec=spec, fit=FIT | fit).save(Path(f"weights/folder/{name}.safetensors"))
    return made


def from_stores(head: CrossDomain | Translator, latents: LatentDecoder | None = None) -> Translation:
    """Condition 0 after exemplar 1, as an evaluation reads them from the stores."""
    params = FitExemplarsParams(features="maps", conditions="mask", photos="photos", latents="latents")
    stores = open_stores("folder", params, wanted=("photo", LATENT))
    domains = stores.domains(head, payloads=("photo", LATENT), memory_gb=0.01, device=CPU)
    condition = domains.photographs(["0"]).condition
    return Translating(head, latents=latents, device=CPU)(condition, domains.photographs(["1"]))


def run(*settings: str, head: str = "cross", **options: Any) -> Translated:
    return translate("0", "1", head, **({"settings": settings, "device": "cpu", "out": Path("a.png")} | options))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def close(path: Path, expected: torch.Tensor) -> bool:
    """Up to what half precision at rest makes of 255 steps."""
    away = pixels(path).astype(int) - as_bytes(expected[0]).astype(int)
    return bool((np.abs(away) <= 2).all())


def test_the_warp_is_that_of_the_stores(project: Path) -> None:
    head = fitted("cross", "cross-domain", MATCHER)
    found, expected = run(), from_stores(head)
    assert (found.sheet, found.warp, found.picture) == (Path("a.png"), Path("a.warp.png"), Path("a.picture.png"))
    assert found.translator == "warp"
    assert close(found.warp, expected.warp)
    assert np.array_equal(pixels(found.picture), pixels(found.warp))
    assert found.confidence == pytest.approx(float(expected.confidence.mean()), abs=0.01)
    assert found.returned == pytest.approx(float(expected.match.returned().float().mean()), abs=0.04)
    sheet = pixels(found.sheet)
    assert sheet.shape[1] > 5 * 256
    assert len(np.unique(sheet[20:, 4:256].reshape(-1, 3), axis=0)) >= 3  # the mask's classes


def test_a_fitted_translator_paints(project: Path) -> None:
    fitted("cross", "cross-domain", MATCHER, identity="of this head")
    painter = fitted("spade", "translator", PAINTER, start="of this head")
    expected = from_stores(painter)
    by_head, own = run(translator="spade"), run(head="spade", out=Path("b.png"))
    assert close(by_head.picture, expected.picture)
    assert close(by_head.warp, expected.warp)
    assert not close(by_head.picture, expected.warp)
    assert (by_head.translator, own.translator) == ("spade", "spade")
    assert np.array_equal(pixels(own.picture), pixels(by_head.picture))
    warped = run("translator=warp", head="spade")
    assert np.array_equal(pixels(warped.picture), pixels(warped.warp))


def test_a_translator_of_another_head_is_told_of(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    fitted("cross", "cross-domain", MATCHER, identity="one")
    fitted("spade", "translator", PAINTER, identity="its own", start="another")
    run(translator="spade")
    assert "spade.safetensors was fitted with another head" in caplog.text
    caplog.clear()
    run(head="spade", translator="spade")
    assert not caplog.text


def test_latents_are_painted_and_decoded(project: Path, sd_folder: Path) -> None:
    fitted("cross", "cross-domain", MATCHER)
    painter = fitted("latent", "translator", PAINTER | {"paints": LATENT, "channels": 4})
    expected = from_stores(painter, LatentDecoder(str(sd_folder), device=CPU))
    assert close(run(translator="latent").picture, expected.picture)


def test_stable_diffusion_translates(project: Path) -> None:
    fitted("cross", "cross-domain", MATCHER)
    fitted("latent", "translator", PAINTER | {"paints": LATENT, "channels": 4})
    settings = ("steps=2", "least_confidence=1")  # no match is trusted
    noise = run(*settings, translator="sd")
    assert (noise.translator, pixels(noise.picture).shape) == ("sd", (16, 16, 3))
    filled = run(*settings, "fill=latent", "latent=latent", translator="sd", out=Path("b.png"))
    assert not np.array_equal(pixels(filled.picture), pixels(noise.picture))
    assert np.array_equal(pixels(filled.warp), pixels(noise.warp))
    with pytest.raises(ConfigError, match="name it with --set latent=ENTRY"):
        run(*settings, "fill=latent", translator="sd")
    with pytest.raises(ConfigError, match="it was fitted on features of pixels"):
        run(*settings, "interleave=1", translator="sd")


def test_a_head_that_sees_the_exemplars_own_condition(project: Path) -> None:
    paper = MATCHER | {"adapters": "paper", "mix": "own", "grid": 4, "width": 16}
    fitted("cross", "cross-domain", paper)
    of_id = run()
    of_files = {"condition": "0", "exemplar": "data/folder/1.png", "head": "cross", "device": "cpu"}
    with pytest.raises(ConfigError, match="sees the exemplar's own condition"):
        translate(**of_files)
    told = ("exemplar_condition=data/folder/conditions/mask/1.png",)
    found = translate(**of_files, settings=told, out=Path("b.png"))
    assert np.array_equal(pixels(found.warp), pixels(of_id.warp))
    other = translate(**of_files, settings=("exemplar_condition='2'",), out=Path("c.png"))
    assert not np.array_equal(pixels(other.warp), pixels(of_id.warp))


def test_which_head_is_meant(project: Path) -> None:
    with pytest.raises(ConfigError, match="which head 'cross' is meant"):
        run()
    fitted("cross", "cross-domain", MATCHER)
    assert run(dataset="folder").translator == run().translator == "warp"
    shutil.copytree("weights/folder", "weights/other")
    with pytest.raises(ConfigError, match=r"--dataset or --weights; there are: .*folder.*other"):
        run()
    assert run(weights=Path("weights/other/cross.safetensors"), out=None).sheet == Path(
        "translated/folder/cross-warp/0--1.png"
    )


def test_what_is_refused(project: Path) -> None:
    head = fitted("cross", "cross-domain", MATCHER)
    with pytest.raises(ConfigError, match=r"takes the name of a \.png, not a\.jpg"):
        run(out=Path("a.jpg"))
    with pytest.raises(ConfigError, match="no parameter 'strenght'"):
        run("strenght=1")
    with pytest.raises(WeightsError, match=r"no head at weights/folder/spade\.safetensors"):
        run(translator="spade")
    with pytest.raises(WeightsError, match="which paints nothing"):
        run(translator="cross")
    fitted("edges", "translator", PAINTER, conditions="edge")
    with pytest.raises(ConfigError, match="fitted with conditions edge, and the head with mask"):
        run(translator="edges")
    fitted("photo", "translator", PAINTER)
    with pytest.raises(ConfigError, match="the translator 'photo' paints a photo"):
        run("fill=latent", "latent=photo", translator="sd")
    fitted("fine", "translator", PAINTER | {"paints": LATENT, "channels": 4}, latents="fine")
    with pytest.raises(ConfigError, match="paints latents of 'fine', and the pipeline denoises those of 'latents'"):
        run("fill=latent", "latent=fine", translator="sd")
    spec = FeatureStore.open("features/folder/maps.zarr").spec
    plain = replace(keep(head, "raw-layer", spec=spec, fit=FIT), tensors={})
    plain.save(Path("weights/folder/plain.safetensors"))
    assert HeadWeights.load(Path("weights/folder/plain.safetensors")).head == "raw-layer"
    with pytest.raises(WeightsError, match="holds the head 'raw-layer', which translates nothing"):
        run(head="plain")


def test_the_verb(project: Path) -> None:
    fitted("cross", "cross-domain", MATCHER)
    asked = ["translate", "--condition", "data/folder/conditions/mask/0.png", "--exemplar", "data/folder/1.png"]
    asked += ["--head", "cross", "--dataset", "folder", "--out", "out/a.png", "--device", "cpu"]
    result = CliRunner().invoke(main, [*asked, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["picture"] == "out/a.picture.png"
    assert all(Path("out", name).exists() for name in ("a.png", "a.warp.png", "a.picture.png"))
    plain = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert "out/a.png: translated by warp; confidence 0." in plain.stdout
    refused = CliRunner().invoke(main, [*asked[:-2], "--exemplar", "no.png"])
    assert refused.exit_code == 1
    assert "'no.png' is neither a file nor an image of dataset 'folder'" in refused.stderr

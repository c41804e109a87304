"""Fits by name: what publications and their code train, and that every one builds."""

import pytest

from matchkit.core.flips import FlipWeights
from matchkit.core.params import build, divide
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads import HEADS
from matchkit.heads.fit import FitParams
from matchkit.heads.presets import PRESETS
from matchkit.heads.presets_exemplars import TOLD as OF_EXEMPLARS

FOUR = (("sd.s5", 1280, 15), ("sd.s4", 1280, 30), ("sd.s3", 640, 60), ("dino", 768, 60))
"""Layers of GeoAware-SC in the order of our store: name, channels, cells an edge."""


def dealt(name: str) -> tuple[str, dict[str, object], FitParams, FlipWeights]:
    """The head, its parameters, those of the fit and those of the flips; none is left over."""
    params = PRESETS.params(name)
    head = params.pop("head")
    params.pop("features")
    kinds = (HEADS.load(head).Params, FitParams, FlipWeights)
    of_head, of_fit, of_flips = divide(params, kinds, where=name)
    return head, of_head, build(FitParams, of_fit, where=name), build(FlipWeights, of_flips, where=name)


PROMPTED = ("sd4match-single", "sd4match-class", "sd4match-conditional", "source-000")


@pytest.mark.parametrize("name", [name for name in PRESETS.table() if name not in (*PROMPTED, *OF_EXEMPLARS)])
def test_every_preset_builds_on_published_shapes(name: str) -> None:
    head, of_head, *_ = dealt(name)
    layers = tuple(LayerSpec(layer, channels, (side, side)) for layer, channels, side in FOUR)
    spec = FeatureSpec("geoaware", "none", layers, (50,), (960, 960), "letterbox", "fp16")
    built = HEADS.build(head, of_head, where=name, spec=spec)
    assert built.grid == (60, 60)
    assert sum(parameter.numel() for group in built.parameter_groups() for parameter in group["params"]) > 2e6


def test_the_released_code_never_uses_the_single_flip() -> None:
    """Geoaware §3.2."""
    flips = {name: dealt(name)[3] for name in ("post-processor-paper", "post-processor-code")}
    assert flips["post-processor-paper"] == FlipWeights(1.0, 1.0, 0.25)
    assert flips["post-processor-code"] == FlipWeights(0.0, 1.0, 0.25)
    paper, code = (PRESETS.params(name) for name in flips)
    assert {key for key in paper if paper[key] != code[key]} == {"single_flip"}


def test_the_published_schedule() -> None:
    """Geoaware §3.3: two epochs of 53,340 pairs, one cycle; AP-10K before, at a constant rate."""
    fit = dealt("post-processor-code")[2]
    assert (fit.steps, fit.pairs, fit.points) == (106_680, 1, "patch")
    assert (fit.lr, fit.weight_decay, fit.schedule, fit.validate_every) == (1.25e-3, 1e-3, "one-cycle", 5000)
    assert dealt("post-processor-pretrain")[2].schedule == "constant"


def test_the_layers_stand_in_the_order_of_the_published_weights() -> None:
    assert PRESETS.params("post-processor-code")["layers"] == ["sd.s3", "sd.s4", "sd.s5", "dino"]


def test_defaults_of_heads_and_fits_are_the_published_ones() -> None:
    """What a preset spells out is what the head would be without."""
    for name in ("post-processor-code", "hyperfeatures"):
        head, of_head, *_ = dealt(name)
        told = build(HEADS.load(head).Params, of_head, where=name)
        plain = HEADS.load(head).Params(**({"layers": told.layers} if "layers" in of_head else {}))
        assert told == plain
    assert dealt("hyperfeatures")[2] == FitParams(points="corner")


def test_the_sequential_network_sees_as_many_pairs_as_the_published_one() -> None:
    fit = dealt("sequential-source-001")[2]
    assert fit.steps * fit.pairs == 106_680


@pytest.mark.parametrize("name", PROMPTED)
def test_every_prompt_builds_on_published_shapes(name: str) -> None:
    head, of_head, fit, _ = dealt(name)
    layers = (*(LayerSpec(layer, 4, (96, 96)) for layer in ("latent", "latent.std")), LayerSpec("dino", 768, (16, 16)))
    spec = FeatureSpec("sd-latents", "none", layers, (0,), (768, 768), "stretch", "fp16")
    if name == "sd4match-class":  # a fit takes them from its pairs
        of_head["categories"] = ["cat", "dog"]
    built = HEADS.build(head, of_head, where=name, spec=spec)
    assert set(built.layers) >= {"latent", "latent.std"}
    assert ("dino" in built.layers) == (name == "sd4match-conditional")
    assert (fit.lr, fit.points, fit.weight_decay) == (0.01, "align-corners", 0.0)


def test_a_published_prompt_sees_a_third_of_the_pairs_five_times() -> None:
    """SD4Match §3.4: 5,927 steps an epoch, 29,635 in all, three pairs each; 1.67 passes over SPair-71k."""
    fit = dealt("sd4match-conditional")[2]
    assert (fit.steps, fit.pairs, fit.validate_every) == (29_635, 3, 5_927)
    assert fit.steps * fit.pairs / 53_340 == pytest.approx(5 / 3, abs=1e-3)


def test_defaults_of_prompts_are_the_published_ones() -> None:
    """But for the posterior's draws, which need a store that holds its deviation."""
    for name in ("sd4match-single", "sd4match-conditional"):
        head, of_head, *_ = dealt(name)
        plain = HEADS.load(head).Params(network=of_head["network"], posterior="sample")
        assert build(HEADS.load(head).Params, of_head, where=name) == plain

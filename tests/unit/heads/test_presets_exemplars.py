"""Fits between two domains by name: what CoCosNet's code trains, and that the toy builds."""

import pytest

from matchkit.core.params import build
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads import HEADS
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.settings import CrossDomainParams
from matchkit.heads.cross_domain.translator_settings import TranslatorParams
from matchkit.heads.presets_exemplars import TOLD

PUBLISHED = {
    # feature, perceptual, its layer, cycle, parts, warp of pseudo exemplars, kernel
    "cocosnet-ade20k": (1.0, 0.01, "r52", 0.0, 100.0, 0.0, 3),
    "cocosnet-celeba-mask": (10.0, 0.001, "r42", 0.1, 100.0, 0.0, 4),
    "cocosnet-celeba-edge": (10.0, 0.001, "r42", 1.0, 0.0, 0.0, 4),
    "cocosnet-deepfashion": (10.0, 0.001, "r42", 0.0, 0.0, 100.0, 4),
}
"""CoCosNet §3, the weights of the four datasets, and §1.2, the kernels."""


def told(name: str) -> TranslatorParams:
    params = TOLD[name][1]
    fields = TranslatorParams.__dataclass_fields__
    return build(TranslatorParams, {key: value for key, value in params.items() if key in fields}, where=name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_weights_of_the_published_losses(name: str) -> None:
    params = told(name)
    matcher = build(CrossDomainParams, dict(params.matcher) | {"side": 256}, where=name)
    found = (params.feature, params.perceptual, params.perceptual_layer)
    assert (*found, matcher.cycle, matcher.parts, matcher.same, matcher.kernel) == PUBLISHED[name]
    assert (params.context, params.adversarial, params.gan_feature, params.same) == (10.0, 10.0, 10.0, 0.0)
    assert params.joint
    assert not params.base
    assert matcher.domain * 256**0.5 == 10.0
    assert (matcher.semantic, matcher.contrast, matcher.annealed, matcher.temperature) == (0, 0, 0, 0.01)
    assert matcher.mix == ("none" if name == "cocosnet-deepfashion" else "own")


@pytest.mark.parametrize("name", PUBLISHED)
def test_two_rates_and_linear_decay(name: str) -> None:
    """TTUR: 1e-4 and 4e-4; betas 0 and .9; eps 1e-3 of the generator."""
    params, fit = told(name), TOLD[name][1]
    rates = [fit["lr"] * rate for rate in (params.generator_rate, params.judge_rate)]
    assert rates == pytest.approx([1e-4, 4e-4])
    assert (params.beta1, params.beta2, params.epsilon) == (0.0, 0.9, 1e-3)
    assert (fit["schedule"], fit["pairs"]) == ("linear-decay", 32)


def test_shares_of_exemplars() -> None:
    """CoCosNet §3: .3, .5, .2; the same garment alone for DeepFashion."""
    shares = {name: tuple(TOLD[name][1][f"{kind}_share"] for kind in ("same", "easy", "hard")) for name in PUBLISHED}
    assert shares.pop("cocosnet-deepfashion") == (1.0, 0.0, 0.0)
    assert set(shares.values()) == {(0.3, 0.5, 0.2)}


def test_the_toy_is_small() -> None:
    params = TOLD["cross-domain-toy"][1]
    fields = CrossDomainParams.__dataclass_fields__
    of_head = {key: value for key, value in params.items() if key in fields}
    layers = (LayerSpec("sd.s3", 64, (8, 8)), LayerSpec("dino", 96, (16, 16)))
    spec = FeatureSpec("geoaware", "none", layers, (50,), (128, 128), "stretch", "fp16")
    head = HEADS.build(params["head"], of_head | {"channels": 45}, where="toy", spec=spec)
    assert isinstance(head, CrossDomain)
    assert sum(parameter.numel() for parameter in head.network.parameters()) == 370_944

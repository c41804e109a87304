"""What the heads that prompt a backbone share."""

from typing import Any

import pytest
import torch

from matchkit.core.params import build
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.prompted import PromptedNetwork, PromptedParams, latents_of

SPEC = FeatureSpec("sd-latents", "none", (LayerSpec("latent", 4, (4, 6)),), (0,), (48, 32), "stretch", "fp16")
CPU = torch.device("cpu")


def test_noise_belongs_to_image_and_step_in_training_and_to_the_image_alone_in_testing(promptable: Any) -> None:
    network = PromptedNetwork(PromptedParams(), promptable, spec=SPEC)
    latents, states = torch.zeros(2, 4, 4, 6), torch.zeros(1, 7, 8)
    network.in_training(latents, ["a/1", "a/2"], states, step=1)
    network.in_training(latents, ["a/1", "a/2"], states, step=2)
    network.in_testing(latents, ["a/1", "a/2"], states)
    one, other, testing = (ids for ids, *_ in promptable.seen)
    assert not set(one) & set(other)
    assert testing == ("a/1", "a/2")


@pytest.mark.parametrize("stored", [torch.float16, torch.float32])
def test_latents_are_of_the_stored_type_and_computed_in_fp32(stored: torch.dtype) -> None:
    maps = {name: torch.full((2, 1, 4, 4, 6), 0.5, dtype=stored) for name in ("latent", "latent.std")}
    plain = latents_of(PromptedParams(), maps, ["a/1", "a/2"], device=CPU)
    assert (plain.shape, plain.dtype) == ((2, 4, 4, 6), torch.float32)
    assert (plain == 0.5).all()
    drawn = latents_of(PromptedParams(posterior="sample"), maps, ["a/1", "a/2"], device=CPU)
    assert drawn.dtype == torch.float32
    assert not torch.equal(drawn[0], drawn[1])


def test_a_draw_does_not_depend_on_the_batch() -> None:
    maps = {name: torch.rand(3, 1, 4, 4, 6) for name in ("latent", "latent.std")}
    params = PromptedParams(posterior="sample")
    every = latents_of(params, maps, ["a/1", "a/2", "a/3"], device=CPU, step=5)
    last = {name: values[2:] for name, values in maps.items()}
    assert torch.equal(latents_of(params, last, ["a/3"], device=CPU, step=5), every[2:])


def test_the_networks_parameters_come_as_plain_data() -> None:
    told = {"network": {"weights": "tiny", "layers": ["up1.out"]}, "posterior": "sample"}
    params = build(PromptedParams, told, where="test")
    assert params.network == told["network"]
    assert params.latent_layers == ("latent", "latent.std")

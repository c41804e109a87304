"""SD4Match's network as prompts are tuned on it: `specs/sd4match.md` §1.2 to §1.5, §2 and §3.5, at its full size."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from matchkit.core.interfaces import Backbone
from matchkit.extract.backbones.promptable import PromptableDiffusion, PromptableParams

META = torch.device("meta")
CPU = torch.device("cpu")
LEVELS = {
    0: (0.999150, 0.999575, 0.029155),
    50: (0.951577, 0.975488, 0.220053),
    101: (0.892980, 0.944976, 0.327139),
    261: (0.655669, 0.809734, 0.586797),
}
"""§1.2: the cumulative alpha, and what a latent and its noise are multiplied by, by timestep."""
Full = Callable[..., PromptableDiffusion]


@pytest.fixture
def full(build_published: Callable[..., Backbone], sd_folder: Path) -> Full:
    """Builds SD2.1's network at 768 pixels on the meta device."""

    def build(**changes: object) -> PromptableDiffusion:
        build_published("sd-noise")  # from here on, what is loaded has the published shapes
        return PromptableDiffusion(
            PromptableParams(**{"weights": str(sd_folder), "input_size": 768} | changes), device=META
        )

    return build


@pytest.fixture(scope="module")
def embedded() -> PromptableDiffusion:
    """The pipeline that ships with the package: small, with Stable Diffusion's schedule and 77 tokens."""
    return PromptableDiffusion(PromptableParams(), device=CPU)


@pytest.mark.parametrize("timestep", LEVELS)
def test_the_level_of_the_noise_that_a_prompt_is_tuned_at(embedded: PromptableDiffusion, timestep: int) -> None:
    """§1.2: 1000 steps of scaled-linear betas, in fp32."""
    network = embedded._network
    one, none = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    levels = (
        float(network.alphas[timestep]),
        float(network.noised(one, none, timestep)),
        float(network.noised(none, one, timestep)),
    )
    assert levels == pytest.approx(LEVELS[timestep], abs=1e-6)


def test_seventy_five_tokens_between_the_first_and_the_last(embedded: PromptableDiffusion) -> None:
    """§2: position 0 is the beginning, 1..75 are learnt, 76 is the end; §2.1: 77 states."""
    assert (embedded.most_tokens, embedded.states_shape[0]) == (75, 77)
    tokens = embedded.drawn_tokens(75, torch.Generator().manual_seed(0))[None]
    other = tokens.clone()
    other[0, 10] = tokens[0, 11]
    changed = (embedded.states_of_tokens(tokens) - embedded.states_of_tokens(other)).abs().amax(2)[0] > 0
    # the mask is causal: a token changes the states from its own on
    assert changed.nonzero().flatten().tolist() == list(range(11, 77))


def test_the_feature_of_768_pixels(full: Full) -> None:
    """§1.4: latents of 4 x 96 x 96 give 1280 x 48 x 48 behind the upsampler of the second block."""
    network = full()
    (layer,) = network.spec.layers
    assert (layer.name, layer.channels, layer.grid) == ("up1.out", 1280, (48, 48))
    assert network.token_width == network.states_shape[1] == 1024
    states = torch.empty(1, 77, 1024, device=META)
    maps = network.maps(torch.empty(2, 4, 96, 96, device=META), ["cat/a", "cat/b"], states, timestep=261)
    assert {name: tuple(tensor.shape) for name, tensor in maps.items()} == {"up1.out": (2, 1280, 48, 48)}


@pytest.mark.parametrize("layers", [("up0.out",), ("up2.out", "up3.out")])
def test_other_blocks_have_their_published_shapes(full: Full, layers: tuple[str, ...]) -> None:
    """§1.4."""
    published = {"up0.out": (1280, 24, 24), "up2.out": (640, 96, 96), "up3.out": (320, 96, 96)}
    states = torch.empty(1, 77, 1024, device=META)
    maps = full(layers=layers).maps(torch.empty(1, 4, 96, 96, device=META), ["cat/a"], states, timestep=261)
    assert {name: tuple(tensor.shape[1:]) for name, tensor in maps.items()} == {
        name: published[name] for name in layers
    }


def test_what_a_step_of_training_costs(full: Full) -> None:
    """§1.5: 1.126 TFLOP forward. Backward there are inputs' gradients alone, and none before the first attention.

    §3.5: with no weight to learn and nothing in front of the first cross-attention, it is less than once more forward.
    """
    network = full()
    states = torch.empty(1, 77, 1024, device=META, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        maps = network.maps(torch.empty(1, 4, 96, 96, device=META), ["cat/a"], states, timestep=261)["up1.out"]
    with FlopCounterMode(display=False) as backward:
        maps.sum().backward()
    assert forward.get_total_flops() == pytest.approx(1.126e12, rel=5e-4)
    assert 0.9 < backward.get_total_flops() / forward.get_total_flops() < 1.0


def test_ten_transformer_blocks_lie_on_the_path(full: Full) -> None:
    """§3.5: 16 in all, and 10 up to the end of the second block: 3 x 2 down, 1 in the middle, 3 up."""
    unet = full()._network.unet
    read = [name for name, _ in unet.named_modules() if name.endswith("attn2")]
    assert len(read) == 10
    assert all(block.startswith(("down", "mid", "up_blocks.1")) for block in read)

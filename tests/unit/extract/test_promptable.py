"""A tiny untrained pipeline as what prompts are tuned on: what depends on the prompt, and what does not."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.interfaces import PromptableBackbone
from matchkit.extract.backbones.diffusion import cumulative_alphas, image_noise
from matchkit.extract.backbones.promptable import PromptableDiffusion, PromptableParams
from matchkit.extract.backbones.sd_latents import SDLatents, SDLatentsParams
from matchkit.extract.backbones.sd_noise import SDNoise, SDNoiseParams

CPU = torch.device("cpu")
IDS = ["cat/a", "dog/b"]
WORDS = "dog"


@pytest.fixture(scope="module")
def backbone(sd_folder: Path) -> PromptableDiffusion:
    return build(sd_folder)


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def build(folder: Path, **changes: Any) -> PromptableDiffusion:
    return PromptableDiffusion(PromptableParams(**{"weights": str(folder)} | changes), device=CPU)


def learned(backbone: PromptableBackbone, count: int = 4) -> torch.Tensor:
    tokens = backbone.drawn_tokens(count, torch.Generator().manual_seed(0))
    return tokens[None].clone().requires_grad_()


def step(backbone: PromptableDiffusion, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The map of a learned prompt, and the gradient of its squares in the prompt."""
    tokens = learned(backbone)
    (maps,) = backbone.maps(latents, IDS, backbone.states_of_tokens(tokens), timestep=261).values()
    maps.square().sum().backward()
    assert tokens.grad is not None
    return maps.detach(), tokens.grad


def test_it_is_a_promptable_backbone(backbone: PromptableDiffusion) -> None:
    assert isinstance(backbone, PromptableBackbone)
    assert (backbone.token_width, backbone.most_tokens, backbone.states_shape) == (8, 4, (6, 8))
    assert [(layer.name, layer.channels, layer.grid) for layer in backbone.spec.layers] == [("up1.out", 8, (4, 4))]


@pytest.mark.parametrize("words", [WORDS, "a cat", ""])
def test_the_embeddings_of_words_give_the_states_of_these_words(backbone: PromptableDiffusion, words: str) -> None:
    embedded = backbone._encoder.embedded(backbone._encoder.tokens(words))
    own = backbone.states_of_text(words)
    # what follows the end of these words is the end once more, as it is behind a prompt without room for more
    assert torch.equal(backbone.states_of_tokens(embedded[:, 1:-1]), own)
    assert own.shape == (1, *backbone.states_shape)


def test_a_short_prompt_ends_early_and_is_filled_up_with_token_0(
    sd_folder: Path, backbone: PromptableDiffusion
) -> None:
    encoder = CLIPTextModel.from_pretrained(sd_folder, subfolder="text_encoder").eval()
    ids = torch.tensor([[0, 7, 9, 1, 0, 0]])
    positions = encoder.embeddings.position_embedding.weight
    tokens = (encoder.embeddings.token_embedding.weight[[7, 9]] + positions[1:3])[None]
    with torch.no_grad():
        torch.testing.assert_close(backbone.states_of_tokens(tokens), encoder(ids).last_hidden_state)


def test_drawn_tokens_are_random_words_at_their_places(sd_folder: Path, backbone: PromptableDiffusion) -> None:
    encoder = CLIPTextModel.from_pretrained(sd_folder, subfolder="text_encoder").eval()
    drawn = backbone.drawn_tokens(3, torch.Generator().manual_seed(5))
    words = torch.randint(encoder.config.vocab_size, (3,), generator=torch.Generator().manual_seed(5))
    embeddings = encoder.embeddings
    expected = embeddings.token_embedding.weight[words] + embeddings.position_embedding.weight[1:4]
    torch.testing.assert_close(drawn, expected.detach())
    assert not drawn.requires_grad


def test_several_prompts_at_once_are_each_their_own(backbone: PromptableDiffusion) -> None:
    both = torch.cat([learned(backbone), learned(backbone).flip(1)]).detach()
    states = backbone.states_of_tokens(both)
    for row in range(2):
        torch.testing.assert_close(states[row : row + 1], backbone.states_of_tokens(both[row : row + 1]))
    assert not torch.allclose(states[0], states[1])


@pytest.mark.parametrize("spared", [{}, {"checkpointing": True}])
@pytest.mark.parametrize(("layers", "hook"), [(("up1.out",), "output"), (("up0.1", "up1.1"), "residual")])
def test_the_gradient_reaches_the_prompt_and_no_weight(
    sd_folder: Path, latents: torch.Tensor, spared: dict[str, bool], layers: tuple[str, ...], hook: str
) -> None:
    network = build(sd_folder, layers=layers, hook=hook, **spared)
    tokens = learned(network)
    maps = network.maps(latents, IDS, network.states_of_tokens(tokens), timestep=261)
    assert list(maps) == list(layers)
    sum(values.square().sum() for values in maps.values()).backward()
    assert tokens.grad is not None
    assert (tokens.grad.abs().amax(dim=2) > 0).all()
    modules = (network._network.unet, network._encoder._encoder)
    weights = [weight for module in modules for weight in module.parameters()]
    assert weights
    assert not any(weight.requires_grad or weight.grad is not None for weight in weights)


@pytest.mark.parametrize("hook", ["residual", "output", "sublayer"])
def test_checkpointing_changes_neither_map_nor_gradient(sd_folder: Path, latents: torch.Tensor, hook: str) -> None:
    for layers in (("up1.out",), ("up1.1",)):
        plain, spared = (
            step(build(sd_folder, layers=layers, hook=hook, checkpointing=on), latents) for on in (False, True)
        )
        assert torch.equal(plain[0], spared[0])
        torch.testing.assert_close(plain[1], spared[1], rtol=1e-5, atol=1e-8)


def test_no_graph_is_kept_before_the_first_cross_attention(
    backbone: PromptableDiffusion, latents: torch.Tensor
) -> None:
    first, attention = (
        backbone._network.unet.down_blocks[0].resnets[0],
        backbone._network.unet.down_blocks[0].attentions[0],
    )
    seen: dict[str, bool] = {}
    hooks = [
        first.register_forward_hook(lambda module, taken, given: seen.update(first=given.requires_grad)),
        attention.register_forward_hook(lambda module, taken, given: seen.update(attention=given[0].requires_grad)),
    ]
    try:
        step(backbone, latents)
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == {"first": False, "attention": True}


def test_the_map_is_that_of_the_whole_unet(
    sd_folder: Path, backbone: PromptableDiffusion, latents: torch.Tensor
) -> None:
    unet = UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet").eval()
    kept: list[torch.Tensor] = []
    unet.up_blocks[1].register_forward_hook(lambda module, taken, given: kept.append(given))
    alpha = cumulative_alphas(beta_start=0.00085, beta_end=0.012, steps=1000)[261]
    noise = image_noise((4, 8, 8), IDS, seed=0, timestep=261, copy=0)
    states = backbone.states_of_text(WORDS)
    with torch.no_grad():
        unet(alpha.sqrt() * latents + (1 - alpha).sqrt() * noise, 261, encoder_hidden_states=states.expand(2, -1, -1))
    (maps,) = backbone.maps(latents, IDS, states, timestep=261).values()
    torch.testing.assert_close(maps, kept[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ensemble", [1, 3])
def test_a_latent_of_a_store_gives_the_maps_of_its_photograph_to_the_bit(sd_folder: Path, ensemble: int) -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    whole = SDNoise(
        SDNoiseParams(weights=str(sd_folder), timesteps=(50,), ensemble=ensemble, prompt=WORDS, seed=7, dtype="fp32"),
        device=CPU,
    )
    cached = SDLatents(SDLatentsParams(weights=str(sd_folder), dtype="fp32"), device=CPU)(images, IDS)["latent"][:, 0]
    network = build(sd_folder, seed=7)
    maps = network.maps(cached.clone(), IDS, network.states_of_text(WORDS), timestep=50, ensemble=ensemble)
    assert torch.equal(maps["up1.out"], whole(images, IDS)["up1.out"][:, 0])


def test_copies_at_once_are_a_matter_of_memory_alone(sd_folder: Path, latents: torch.Tensor) -> None:
    one, three = (
        network.maps(latents, IDS, network.states_of_text(WORDS), timestep=50, ensemble=3)["up1.out"]
        for network in (build(sd_folder), build(sd_folder, copies_at_once=3))
    )
    torch.testing.assert_close(one, three, rtol=1e-5, atol=1e-6)


def test_states_are_one_for_all_or_one_each(backbone: PromptableDiffusion, latents: torch.Tensor) -> None:
    dog, cat = (backbone.states_of_text(words) for words in ("dog", "cat"))
    each = backbone.maps(latents, IDS, torch.cat([dog, cat]), timestep=261)["up1.out"]
    for row, states in enumerate((dog, cat)):
        one = backbone.maps(latents, IDS, states, timestep=261)["up1.out"]
        torch.testing.assert_close(each[row], one[row], rtol=1e-5, atol=1e-6)


def test_it_works_under_autocast(backbone: PromptableDiffusion, latents: torch.Tensor) -> None:
    maps, gradient = step(backbone, latents)
    with torch.autocast("cpu", torch.bfloat16):
        halved, rough = step(backbone, latents)
    assert halved.dtype == rough.dtype == torch.float32
    assert not torch.equal(maps, halved)
    torch.testing.assert_close(halved, maps, rtol=0.1, atol=0.1 * float(maps.abs().max()))
    assert torch.cosine_similarity(rough.flatten(), gradient.flatten(), dim=0) > 0.98


def test_half_precision_gives_and_takes_fp32(sd_folder: Path, latents: torch.Tensor) -> None:
    network = build(sd_folder, precision="bf16")
    maps, gradient = step(network, latents)
    assert maps.dtype == gradient.dtype == network.states_of_text(WORDS).dtype == torch.float32
    assert gradient.abs().max() > 0


def test_threads_do_not_disturb_each_other(backbone: PromptableDiffusion, latents: torch.Tensor) -> None:
    prompts = [learned(backbone).detach() * scale for scale in (1.0, 2.0, 3.0, 4.0)]

    def run(tokens: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = backbone.maps(latents, IDS, backbone.states_of_tokens(tokens), timestep=50)["up1.out"]
        return maps

    alone = [run(tokens) for tokens in prompts]
    together: dict[int, torch.Tensor] = {}

    def repeat(number: int) -> None:
        torch.set_num_threads(1)
        for _ in range(3):
            together[number] = run(prompts[number])

    threads = [threading.Thread(target=repeat, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(together[number], maps) for number, maps in enumerate(alone))


def test_what_no_map_depends_on_is_let_go(backbone: PromptableDiffusion) -> None:
    unet = backbone._network.unet
    assert not hasattr(backbone._network, "vae")
    assert [len(list(block.parameters())) > 0 for block in unet.up_blocks] == [True, True, False, False]


@pytest.mark.parametrize("count", [0, 5])
def test_tokens_that_there_is_no_room_for_are_refused(backbone: PromptableDiffusion, count: int) -> None:
    with pytest.raises(ConfigError, match=rf"has 1\.\.4 tokens, not {count}"):
        backbone.states_of_tokens(torch.zeros(1, count, 8))
    with pytest.raises(ConfigError, match=rf"has 1\.\.4 tokens, not {count}"):
        backbone.drawn_tokens(count, torch.Generator())


def test_a_prompt_of_another_text_encoder_is_refused(backbone: PromptableDiffusion, latents: torch.Tensor) -> None:
    with pytest.raises(WeightsError, match=r"tokens 9 wide do not fit the text encoder of .*sd, whose own are 8 wide"):
        backbone.states_of_tokens(torch.zeros(1, 4, 9))
    with pytest.raises(WeightsError, match=r"states 9 wide do not fit the UNet of .*sd, which takes 8"):
        backbone.maps(latents, IDS, torch.zeros(1, 6, 9), timestep=50)


def test_latents_of_another_input_are_refused(backbone: PromptableDiffusion) -> None:
    with pytest.raises(ConfigError, match=r"latents of \(4, 6, 6\) are not those of an input of 16 pixels"):
        backbone.maps(torch.zeros(2, 4, 6, 6), IDS, torch.zeros(1, 6, 8), timestep=50)


@pytest.mark.parametrize("timestep", [-1, 1000])
def test_a_timestep_outside_the_schedule_is_refused(
    backbone: PromptableDiffusion, latents: torch.Tensor, timestep: int
) -> None:
    with pytest.raises(ConfigError, match=rf"must lie in 0\.\.999, not {timestep}"):
        backbone.maps(latents, IDS, torch.zeros(1, 6, 8), timestep=timestep)


def test_no_copy_at_once_is_refused() -> None:
    with pytest.raises(ConfigError, match="copies_at_once must be at least 1, not 0"):
        PromptableParams(copies_at_once=0)


def test_told_tokens_are_those_of_the_words(backbone: PromptableDiffusion) -> None:
    """Learnt tokens that begin so give the states of the words, but for the last one, which ends the prompt."""
    told = backbone.told_tokens("a b", backbone.most_tokens)
    states = backbone.states_of_tokens(told[None])
    torch.testing.assert_close(states[:, :-1], backbone.states_of_text("a b")[:, :-1])

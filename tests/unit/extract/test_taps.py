"""The decoder's ResNets read by hooks."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from matchkit.core.errors import ConfigError
from matchkit.extract.backbones.taps import DecoderTaps, chosen_layers, decoder_resnets, layer_specs


@pytest.fixture
def unet(sd_folder: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet").eval()


@pytest.fixture
def forward(unet: UNet2DConditionModel) -> Callable[[float], torch.Tensor]:
    """The UNet's output on latents that are all of one value."""

    @torch.no_grad()
    def run(value: float) -> torch.Tensor:
        states = torch.ones(1, 6, 8)
        output: torch.Tensor = unet(torch.full((1, 4, 8, 8), value), 100, encoder_hidden_states=states).sample
        return output

    return run


def test_names_in_the_order_of_the_forward_pass(unet: UNet2DConditionModel) -> None:
    names = [f"up{block}.{index}" for block in range(4) for index in range(3)]
    assert list(decoder_resnets(unet)) == names
    assert chosen_layers(unet, ()) == tuple(names)
    assert chosen_layers(unet, ("up3.0", "up0.2")) == ("up0.2", "up3.0")


def test_an_unknown_layer_is_refused_with_the_nearest(unet: UNet2DConditionModel) -> None:
    with pytest.raises(ConfigError, match=r"no layer 'up2_1' in this UNet's decoder\. Did you mean 'up2\.1'\?"):
        chosen_layers(unet, ("up2_1",))


def test_shapes_are_told_beforehand(unet: UNet2DConditionModel, forward: Callable[[float], torch.Tensor]) -> None:
    layers = chosen_layers(unet, ())
    with DecoderTaps(unet, layers, hook="residual").recording() as maps:
        forward(1.0)
    told = {layer.name: (1, layer.channels, *layer.grid) for layer in layer_specs(unet, layers, latent=(8, 8))}
    assert {name: tuple(tensor.shape) for name, tensor in maps.items()} == told


def test_residual_is_the_second_convolution_and_output_the_whole_resnet(
    unet: UNet2DConditionModel, forward: Callable[[float], torch.Tensor]
) -> None:
    layers = ("up1.0", "up3.2")
    untapped, plain = forward(0.5), {}
    for name, resnet in ((name, decoder_resnets(unet)[name]) for name in layers):
        for part in ("conv2", "conv_shortcut"):
            getattr(resnet, part).register_forward_hook(
                lambda module, inputs, output, key=(name, part): plain.__setitem__(key, output)
            )
    taps = {hook: DecoderTaps(unet, layers, hook=hook) for hook in ("residual", "output")}
    with taps["residual"].recording() as residual, taps["output"].recording() as output:
        assert torch.equal(forward(0.5), untapped)
    for name in layers:
        assert torch.equal(residual[name], plain[name, "conv2"])
        torch.testing.assert_close(output[name], plain[name, "conv2"] + plain[name, "conv_shortcut"])


def test_nothing_is_kept_outside_a_recording(
    unet: UNet2DConditionModel, forward: Callable[[float], torch.Tensor]
) -> None:
    taps = DecoderTaps(unet, ("up0.0",), hook="residual")
    forward(1.0)
    with taps.recording() as maps:
        assert maps == {}
        forward(1.0)
        first = maps["up0.0"]
        forward(2.0)
        assert not torch.equal(maps["up0.0"], first)
    last = maps["up0.0"]
    forward(3.0)
    assert maps["up0.0"] is last


def test_two_threads_do_not_mix(unet: UNet2DConditionModel, forward: Callable[[float], torch.Tensor]) -> None:
    taps = DecoderTaps(unet, ("up2.1",), hook="residual")
    barrier = threading.Barrier(2)
    kept: dict[float, list[torch.Tensor]] = {1.0: [], -2.0: []}

    def work(value: float) -> None:
        with taps.recording() as maps:
            for _ in range(5):
                barrier.wait(timeout=30)
                forward(value)
                barrier.wait(timeout=30)  # the other thread's pass lies between ours and the reading
                kept[value].append(maps["up2.1"])

    threads = [threading.Thread(target=work, args=(value,)) for value in kept]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for value, tensors in kept.items():
        with taps.recording() as maps:
            forward(value)
        assert len(tensors) == 5
        for tensor in tensors:
            torch.testing.assert_close(tensor, maps["up2.1"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "module"), [("up0.1", "resnets.1"), ("up1.1", "attentions.1")])
def test_a_sublayer_ends_after_its_attention(
    unet: UNet2DConditionModel, forward: Callable[[float], torch.Tensor], name: str, module: str
) -> None:
    """What enters the next sub-layer, in front of its skip."""
    block = unet.up_blocks[int(name[2])]
    entering: list[torch.Tensor] = []
    block.resnets[2].register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    with DecoderTaps(unet, (name,), hook="sublayer").recording() as maps:
        forward(0.5)
    assert block.get_submodule(module) is not None
    assert torch.equal(entering[0][:, : maps[name].shape[1]], maps[name])


def test_a_blocks_output_comes_after_its_upsampler(
    unet: UNet2DConditionModel, forward: Callable[[float], torch.Tensor]
) -> None:
    kept: list[torch.Tensor] = []
    unet.up_blocks[1].upsamplers[0].register_forward_hook(lambda module, inputs, output: kept.append(output))
    with DecoderTaps(unet, ("up1.out",), hook="residual").recording() as maps:
        forward(0.5)
    assert torch.equal(maps["up1.out"], kept[0])
    assert maps["up1.out"].shape == (1, 8, 4, 4)


@pytest.mark.parametrize("latent", [(8, 8), (9, 7), (12, 10), (5, 16)])
def test_shapes_of_latents_that_do_not_halve(unet: UNet2DConditionModel, latent: tuple[int, int]) -> None:
    layers = chosen_layers(unet, tuple(f"up{block}.{part}" for block in range(4) for part in (0, 2, "out")))
    with torch.no_grad(), DecoderTaps(unet, layers, hook="output").recording() as maps:
        unet(torch.ones(1, 4, *latent), 100, encoder_hidden_states=torch.ones(1, 6, 8))
    told = {layer.name: (layer.channels, *layer.grid) for layer in layer_specs(unet, layers, latent=latent)}
    assert {name: tuple(tensor.shape[1:]) for name, tensor in maps.items()} == told


def test_a_pass_that_is_to_stop_raises_nothing_and_leaves_the_next_alone(
    unet: UNet2DConditionModel, forward: Callable[[float], torch.Tensor]
) -> None:
    taps = DecoderTaps(unet, ("up0.2", "up1.0"), hook="output")
    ended: list[bool] = []
    with taps.recording() as maps, taps.stopping():
        forward(1.0)
        ended.append(False)
    assert maps.keys() == {"up0.2", "up1.0"}
    assert not ended
    with taps.recording() as whole:
        assert forward(1.0).shape == (1, 4, 8, 8)
    assert torch.equal(maps["up1.0"], whole["up1.0"])


def test_another_error_in_a_pass_that_is_to_stop_is_not_hidden(unet: UNet2DConditionModel) -> None:
    taps = DecoderTaps(unet, ("up0.2",), hook="output")
    with pytest.raises(RuntimeError), taps.recording(), taps.stopping():
        unet(torch.ones(1, 3, 8, 8), 100, encoder_hidden_states=torch.ones(1, 6, 8))

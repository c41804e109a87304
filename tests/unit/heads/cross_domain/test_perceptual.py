"""VGG-19 and the losses that see with it, or with another network."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from matchkit.core.errors import ConfigError, UnknownNameError, WeightsError
from matchkit.heads.cross_domain.contextual import contextual
from matchkit.heads.cross_domain.perceptual import (
    PictureFeatures,
    Trained,
    Vgg19,
    context_loss,
    feature_loss,
    perceptual_loss,
)

Maps = dict[str, torch.Tensor]
NAMES = ("r12", "r22", "r32", "r42", "r52")


@pytest.fixture(scope="module")
def vgg() -> Vgg19:
    torch.manual_seed(0)
    return Vgg19()


def test_its_maps(vgg: Vgg19) -> None:
    maps = vgg(torch.rand(2, 3, 48, 32))
    shapes = {name: tuple(values.shape[1:]) for name, values in maps.items()}
    assert shapes == {
        **{"r12": (64, 48, 32), "r22": (128, 24, 16), "r32": (256, 12, 8)},
        **{"r42": (512, 6, 4), "r52": (512, 3, 2)},
    }
    assert tuple(maps) == NAMES
    assert all(values.min() >= 0 for values in maps.values())
    assert isinstance(vgg, PictureFeatures)


def test_its_convolutions(vgg: Vgg19) -> None:
    convolutions = [module for module in vgg.modules() if isinstance(module, nn.Conv2d)]
    widths = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 6
    assert [convolution.out_channels for convolution in convolutions] == widths
    assert [convolution.in_channels for convolution in convolutions] == [3, *widths[:-1]]


def test_the_gradient_goes_to_the_picture_alone(vgg: Vgg19) -> None:
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    vgg(images)["r52"].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0
    assert not any(values.requires_grad for values in vgg.parameters())


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        # blue, green, red: 255 * value minus 103.939, 116.779, 123.68
        ("caffe", [255 * 0.25 - 103.939, 255 * 0.5 - 116.779, 255 * 0.75 - 123.68]),
        ("torchvision", [(0.75 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.25 - 0.406) / 0.225]),
    ],
)
def test_what_the_first_convolution_is_given(trained: Trained, expected: list[float]) -> None:
    vgg, given = Vgg19(trained=trained), []
    first = next(module for module in vgg.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_pre_hook(lambda _, told: given.append(told[0]))
    vgg(torch.tensor([0.75, 0.5, 0.25])[None, :, None, None].expand(1, 3, 16, 16))
    assert given[0][0, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-3)


def test_a_loaded_network_computes_with_its_files_weights(vgg: Vgg19, tmp_path: Path) -> None:
    convolutions = [module for module in vgg.modules() if isinstance(module, nn.Conv2d)]
    names = [f"conv{block}_{n}" for block, count in enumerate((2, 2, 4, 4, 2), 1) for n in range(1, count + 1)]
    state = {
        f"{name}.{kind}": values.detach()
        for name, convolution in zip(names, convolutions, strict=True)
        for kind, values in convolution.named_parameters()
    }
    save_file(state, tmp_path / "vgg19.safetensors")
    loaded, images = Vgg19.load(tmp_path / "vgg19.safetensors"), torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(loaded(images), vgg(images))
    assert not any(values.requires_grad for values in loaded.parameters())


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights of VGG-19 at .*vgg\.pth"):
        Vgg19.load(tmp_path / "vgg.pth")


def test_a_small_picture_is_refused(vgg: Vgg19) -> None:
    with pytest.raises(ConfigError, match=r"sides of 16 pixels, not \(15, 32\)"):
        vgg(torch.rand(1, 3, 15, 32))


def layers(batch: int, names: tuple[str, ...] = NAMES) -> Maps:
    torch.manual_seed(0)
    return {name: torch.rand(batch, 4, 2 << place, 2 << place) for place, name in enumerate(names[::-1])}


def shallow_first(maps: Maps) -> Maps:
    return dict(reversed(maps.items()))


def moved(maps: Maps, *by: float) -> Maps:
    return {name: values + torch.tensor(by)[:, None, None, None] for name, values in maps.items()}


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_feature_loss(name: str) -> None:
    wanted = shallow_first(layers(1))
    found = wanted | {name: wanted[name] - 1}
    expected = {"r12": 1 / 32, "r22": 1 / 16, "r32": 1 / 8, "r42": 1 / 4, "r52": 1}[name]
    assert feature_loss(found, wanted).item() == pytest.approx(expected, rel=1e-5)


def test_feature_loss_of_other_depths() -> None:
    for names, expected in ((("a",), 1.0), (("a", "b", "c"), 1.375), (("a", "b", "c", "d", "e", "f"), 1.484375)):
        wanted = shallow_first(layers(1, names))
        assert feature_loss(moved(wanted, 1), wanted).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_feature_loss_of_pseudo_pairs_does_not_depend_on_the_batch(batch: int) -> None:
    wanted = shallow_first(layers(batch, ("a", "b")))
    pseudo = torch.zeros(batch)
    pseudo[: max(1, batch // 4)] = 1
    found = moved(wanted, *torch.where(pseudo > 0, 1.0, 9.0).tolist())
    assert feature_loss(found, wanted, pseudo=pseudo).item() == pytest.approx(1.25, rel=1e-5)
    assert feature_loss(found, wanted, pseudo=torch.zeros(batch)).item() == 0


def test_perceptual_loss_is_the_mean_square_at_one_layer() -> None:
    wanted = shallow_first(layers(2))
    found = wanted | {"r42": wanted["r42"] + torch.tensor([1.0, 3.0])[:, None, None, None]}
    assert perceptual_loss(found, wanted, layer="r42").item() == pytest.approx(5, rel=1e-5)
    assert perceptual_loss(found, wanted, layer="r52").item() == 0


def test_a_layer_that_is_not_there() -> None:
    wanted = layers(1)
    with pytest.raises(UnknownNameError, match=r"no layer 'r43'\. Did you mean 'r42'\? There are: r52, r42"):
        perceptual_loss(wanted, wanted, layer="r43")


def test_context_loss_weighs_and_pools_by_depth() -> None:
    found = shallow_first(layers(2))
    exemplar = {name: values.flip(0, 1) for name, values in found.items()}
    pool = nn.functional.avg_pool2d
    terms = [
        8 * contextual(found["r52"], exemplar["r52"]),
        4 * contextual(found["r42"], exemplar["r42"]),
        2 * contextual(pool(found["r32"], 2), pool(exemplar["r32"], 2)),
        1 * contextual(pool(found["r22"], 4), pool(exemplar["r22"], 4)),
    ]
    torch.testing.assert_close(context_loss(found, exemplar), sum(terms[:3], torch.zeros(())))
    torch.testing.assert_close(context_loss(found, exemplar, layers=4, rows=3), sum(terms, torch.zeros(())))
    torch.testing.assert_close(context_loss({"r52": found["r52"]}, {"r52": exemplar["r52"]}), terms[0])


def test_context_loss_of_a_sample() -> None:
    found = shallow_first(layers(1))
    exemplar = {name: values.flip(1) for name, values in found.items()}
    whole, sampled = (
        context_loss(found, exemplar, sample=sample, draw=torch.Generator().manual_seed(0)) for sample in (None, 3)
    )
    assert whole.item() != pytest.approx(sampled.item(), rel=1e-4)


def test_gradients_go_to_what_was_found_alone() -> None:
    found, wanted = ({name: values.requires_grad_() for name, values in layers(2).items()} for _ in range(2))
    made = {name: values * 1.5 for name, values in found.items()}
    (feature_loss(made, wanted) + perceptual_loss(made, wanted, layer="r12") + context_loss(made, wanted)).backward()
    assert all(values.grad is None for values in wanted.values())
    assert all(values.grad is not None for values in found.values())

"""Every backbone: what its spec says is what comes out, and an image's features depend on the image alone."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import Backbone
from matchkit.core.spec import FeatureSpec
from matchkit.extract.backbones import BACKBONES

Build = Callable[..., Backbone]
IDS = ["cat/a", "cat/b", "dog/c"]
pytestmark = pytest.mark.parametrize("name", list(BACKBONES.table()))


def photographs(backbone: Backbone) -> list[torch.Tensor]:
    """A batch (3,3,h,w) in [0, 1] on each canvas that the backbone asks for."""
    coarse = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    sizes = [canvas.size[::-1] for canvas in backbone.canvases]
    return [torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False) for size in sizes]


def maps_of(backbone: Backbone, images: list[torch.Tensor], ids: list[str]) -> dict[str, torch.Tensor]:
    first, *others = images
    return backbone(first, ids, *others)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_the_spec_is_what_comes_out(build_backbone: Build, name: str, dtype: Literal["fp16", "fp32"]) -> None:
    backbone = build_backbone(name, dtype=dtype)
    assert isinstance(backbone, Backbone)
    assert backbone.spec.backbone == name
    assert backbone.canvases[0].size == backbone.spec.input_size
    assert backbone.canvases[0].fit == backbone.spec.fit
    maps = maps_of(backbone, photographs(backbone), IDS)
    assert list(maps) == [layer.name for layer in backbone.spec.layers]
    for layer in backbone.spec.layers:
        assert maps[layer.name].shape == (3, len(backbone.spec.timesteps), layer.channels, *layer.grid)
        assert maps[layer.name].dtype == {"fp16": torch.float16, "fp32": torch.float32}[dtype]
        assert maps[layer.name].device.type == "cpu"
        assert maps[layer.name].isfinite().all()
        assert not maps[layer.name].requires_grad
    assert FeatureSpec.from_json(backbone.spec.to_json()).digest() == backbone.spec.digest()


def test_different_images_have_different_features(build_backbone: Build, name: str) -> None:
    backbone = build_backbone(name, dtype="fp32")
    for values in maps_of(backbone, photographs(backbone), IDS).values():
        assert (values[0] - values[1]).abs().max() > 1e-4


def test_a_second_one_gives_the_same_features(build_backbone: Build, name: str) -> None:
    one, other = build_backbone(name, dtype="fp32"), build_backbone(name, dtype="fp32")
    assert one.spec.digest() == other.spec.digest()
    images = photographs(one)
    before, torch_state = [image.clone() for image in images], torch.random.get_rng_state()
    first, again, second = (maps_of(backbone, images, IDS) for backbone in (one, one, other))
    for layer, values in first.items():
        assert torch.equal(values, again[layer])
        torch.testing.assert_close(values, second[layer], rtol=1e-5, atol=1e-5)
    assert all(torch.equal(now, then) for now, then in zip(images, before, strict=True))
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def test_features_do_not_depend_on_the_rest_of_the_batch(build_backbone: Build, name: str) -> None:
    backbone = build_backbone(name, dtype="fp32")
    images = photographs(backbone)
    together = maps_of(backbone, images, IDS)
    alone = maps_of(backbone, [image[1:2] for image in images], IDS[1:2])
    turned = maps_of(backbone, [image.flip(0) for image in images], IDS[::-1])
    for layer, values in together.items():
        near = 1e-5 * max(1.0, float(values.abs().max()))
        torch.testing.assert_close(values[1:2], alone[layer], rtol=1e-5, atol=near)
        torch.testing.assert_close(values, turned[layer].flip(0), rtol=1e-5, atol=near)


@pytest.mark.parametrize("change", [{"fit": "letterbox"}, {"dtype": "fp32"}])
def test_what_changes_the_numbers_changes_the_digest(build_backbone: Build, name: str, change: dict[str, Any]) -> None:
    plain, changed = build_backbone(name), build_backbone(name, **change)
    assert plain.spec.digest() != changed.spec.digest()
    ((key, value),) = change.items()
    assert getattr(changed.spec, key) == value


def test_a_misspelt_parameter_is_refused(build_backbone: Build, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: no parameter 'dtipe'\. Did you mean 'dtype'\?"):
        build_backbone(name, dtipe="fp32")

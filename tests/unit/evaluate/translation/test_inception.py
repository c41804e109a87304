"""FID's Inception network: its names, shapes and size, its peculiarities, and which files it takes. No real weights."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from matchkit.core.errors import WeightsError
from matchkit.evaluate.translation.inception import (
    ConvNorm,
    Inception,
    InceptionSettings,
    Mixed,
    load_inception,
    resized,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def unmade() -> Inception:
    with torch.device("meta"):
        return Inception(InceptionSettings("tensorflow", "none"))


def tensors(network: Inception) -> dict[str, torch.Tensor]:
    """Of the right names and shapes, all one number, which takes no room in a file."""
    held = {
        name: torch.tensor(0.5).expand(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    return held | {"fc.weight": torch.zeros(1).expand(1008, 2048), "fc.bias": torch.zeros(1).expand(1008)}


def saved(held: Mapping[str, torch.Tensor], folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save(dict(held), path)
    return path


def test_it_is_as_large_as_inception_v3_without_its_classifier(unmade: Inception) -> None:
    """21,768,352 trainable parameters without the scales of normalisation, whose channels are 17,216."""
    assert sum(parameter.numel() for parameter in unmade.parameters()) == 21_768_352 + 17_216
    assert sum(name.endswith("conv.weight") for name in unmade.state_dict()) == 94


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Conv2d_1a_3x3.conv.weight", (32, 3, 3, 3)),
        ("Conv2d_4a_3x3.bn.running_var", (192,)),
        ("Mixed_5b.branch5x5_2.conv.weight", (64, 48, 5, 5)),
        ("Mixed_5d.branch_pool.conv.weight", (64, 288, 1, 1)),
        ("Mixed_6a.branch3x3.conv.weight", (384, 288, 3, 3)),
        ("Mixed_6c.branch7x7_2.conv.weight", (160, 160, 1, 7)),
        ("Mixed_6e.branch7x7dbl_2.conv.weight", (192, 192, 7, 1)),
        ("Mixed_7a.branch7x7x3_4.conv.weight", (192, 192, 3, 3)),
        ("Mixed_7b.branch3x3dbl_1.conv.weight", (448, 1280, 1, 1)),
        ("Mixed_7c.branch3x3_2b.conv.weight", (384, 384, 3, 1)),
        ("Mixed_7c.branch_pool.bn.bias", (192,)),
    ],
)
def test_names_and_shapes_are_those_of_the_file(unmade: Inception, name: str, shape: tuple[int, ...]) -> None:
    assert tuple(unmade.state_dict()[name].shape) == shape


@pytest.fixture
def made() -> Inception:
    """On the CPU, all weights one number, which takes no memory."""
    with torch.device("meta"):
        network = Inception(InceptionSettings("tensorflow", "none"))
    held = {name: torch.tensor(0.01).expand(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict(held, assign=True)
    return network


def test_a_picture_of_any_size_becomes_2048_numbers_on_the_published_grids(made: Inception) -> None:
    seen: dict[str, tuple[int, ...]] = {}
    for name, block in made.named_children():
        block.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, tuple(out.shape[1:])))
    assert made(torch.rand(1, 3, 8, 20)).shape == (1, 2048)
    assert seen["Conv2d_2b_3x3"] == (64, 147, 147)
    assert seen["Conv2d_4a_3x3"] == (192, 71, 71)
    assert seen["Mixed_5b"] == (256, 35, 35)
    assert seen["Mixed_6a"] == seen["Mixed_6e"] == (768, 17, 17)
    assert seen["Mixed_7a"] == (1280, 8, 8)
    assert seen["Mixed_7c"] == (2048, 8, 8)
    assert list(seen) == [name for name, _ in made.named_children()]


def test_the_first_layer_sees_the_range_from_minus_one_to_one(made: Inception) -> None:
    class SeenError(Exception):
        pass

    def stop(_module: object, inputs: tuple[torch.Tensor]) -> None:
        assert [float(end) for end in inputs[0].aminmax()] == [-1, 1]
        raise SeenError

    made.Conv2d_1a_3x3.register_forward_pre_hook(stop)
    with pytest.raises(SeenError):
        made(torch.tensor([0.0, 1.0]).expand(1, 3, 4, 2))


@pytest.mark.parametrize("name", ["Mixed_5b", "Mixed_6b", "Mixed_7b", "Mixed_7c"])
def test_the_last_block_takes_the_maximum_and_others_the_mean_of_real_pixels(unmade: Inception, name: str) -> None:
    block = unmade.get_submodule(name)
    assert isinstance(block, Mixed)
    x = torch.rand(1, 32, 3, 3, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(1, 1, 3, 3)
    counts = functional.avg_pool2d(ones, 3, stride=1, padding=1)
    mean = functional.avg_pool2d(x, 3, stride=1, padding=1) / counts
    expected = functional.max_pool2d(x, 3, stride=1, padding=1) if name == "Mixed_7c" else mean
    torch.testing.assert_close(block._pooled(x), expected)


def test_a_small_block_concatenates_its_branches_in_order() -> None:
    network = Mixed(2, pool="max", pooled=3).eval().requires_grad_(requires_grad=False)
    conv = network.get_submodule("branch_pool")
    assert isinstance(conv, ConvNorm)
    conv.conv.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, 0]])[..., None, None])
    found = network(torch.ones(1, 2, 1, 1) * torch.tensor([2.0, 3.0]).view(1, 2, 1, 1))
    torch.testing.assert_close(found.flatten() * (1 + 1e-3) ** 0.5, torch.tensor([2.0, 3.0, 0.0]))


def test_resizing_as_tensorflow_keeps_the_upper_left_pixel() -> None:
    ramp = torch.arange(598.0).expand(1, 3, 598, 598) / 598
    found = resized(ramp, "tensorflow")
    torch.testing.assert_close(found[0, 0, 0], torch.arange(299.0) * 2 / 598)
    torch.testing.assert_close(resized(ramp, "half-pixel")[0, 0, 0], (torch.arange(299.0) * 2 + 0.5) / 598)


def test_enlarging_as_tensorflow_ends_on_the_last_pixel() -> None:
    found = resized(torch.tensor([[0.0, 1.0], [0.5, 1.5]]).expand(1, 3, 2, 2), "tensorflow")[0, 0]
    assert found[0, 0] == 0
    assert found[-1, -1] == 1.5
    torch.testing.assert_close(found[0, 75], torch.tensor(75 * 2 / 299))
    torch.testing.assert_close(found[75, 0], torch.tensor(75 / 299))


def test_a_picture_of_the_right_size_stays_as_it_is() -> None:
    picture = torch.rand(1, 3, 299, 299)
    torch.testing.assert_close(resized(picture, "tensorflow"), picture)
    torch.testing.assert_close(resized(picture, "half-pixel"), picture)


def test_the_file_is_taken_with_and_without_counters(unmade: Inception, tmp_path: Path) -> None:
    held = tensors(unmade)
    network = load_inception(saved(held, tmp_path), device=CPU)
    assert network.state_dict()["Mixed_7c.branch1x1.conv.weight"][0, 0, 0, 0] == 0.5
    assert network.settings.weights.startswith("sha256:")
    assert network.settings.resize == "tensorflow"
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    counted = held | {"Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(3)}
    assert load_inception(saved(counted, tmp_path), device=CPU, resize="half-pixel").settings.resize == "half-pixel"


def test_half_precision_is_computed_in_single(unmade: Inception, tmp_path: Path) -> None:
    held = {name: tensor.half() for name, tensor in tensors(unmade).items()}
    assert load_inception(saved(held, tmp_path), device=CPU).Conv2d_1a_3x3.conv.weight.dtype == torch.float32


def test_a_file_that_lacks_a_tensor_is_refused(unmade: Inception, tmp_path: Path) -> None:
    held = tensors(unmade)
    del held["Mixed_6d.branch7x7dbl_4.bn.running_mean"]
    with pytest.raises(WeightsError, match=r"lacks 1 of its tensors, e.g. 'Mixed_6d.branch7x7dbl_4.bn.running_mean'"):
        load_inception(saved(held, tmp_path), device=CPU)


def test_a_file_of_another_network_is_refused(unmade: Inception, tmp_path: Path) -> None:
    held = tensors(unmade) | {"AuxLogits.conv0.conv.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"has besides 1 .* 'AuxLogits"):
        load_inception(saved(held, tmp_path), device=CPU)
    held = tensors(unmade) | {"Mixed_5b.branch1x1.bn.bias": torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"of another shape 1 .* 'Mixed_5b.branch1x1.bn.bias'"):
        load_inception(saved(held, tmp_path), device=CPU)


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, path)
    with pytest.raises(WeightsError, match=r"lacks 469 of its tensors, e.g. 'Conv2d_1a_3x3.bn.weight'"):
        load_inception(path, device=CPU)


class Foreign:
    """What only code can unpickle."""


@pytest.mark.parametrize("held", [[torch.zeros(1)], {"epoch": 3}])
def test_what_is_no_table_of_tensors_is_refused(held: object, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(held, path)
    with pytest.raises(WeightsError, match="not a table of tensors"):
        load_inception(path, device=CPU)


def test_what_could_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": Foreign()}, path)
    with pytest.raises(WeightsError, match="read safely"):
        load_inception(path, device=CPU)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_broken_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"<!doctype html><p>not found")
    with pytest.raises(WeightsError, match="read safely"):
        load_inception(path, device=CPU)


def test_a_missing_file_is_never_downloaded(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="Give its path"):
        load_inception(tmp_path / "weights.pth", device=CPU)

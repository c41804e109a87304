"""Weights of VGG-19 by either names, and what is refused."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from matchkit.core.errors import WeightsError
from matchkit.heads.cross_domain.vgg_weights import read_vgg

State = dict[str, torch.Tensor]
CHANNELS = {1: (3, 64), 2: (64, 128), 3: (128, 256), 4: (256, 512), 5: (512, 512)}
COUNTS = {1: 2, 2: 2, 3: 4, 4: 4, 5: 4}
FEATURES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
"""Places of the convolutions in torchvision's `vgg19().features`."""
NAMES = [f"conv{block}_{number}" for block, count in COUNTS.items() for number in range(1, count + 1)]
WANTED = NAMES[:14]


def published(names: list[str]) -> State:
    """All convolutions; number n has weights of n and biases of -n. A file of them is small: they are expanded."""
    state = {}
    for place, (short, name) in enumerate(zip(NAMES, names, strict=True)):
        before, after = CHANNELS[int(short[4])]
        before = before if short.endswith("_1") else after
        state[f"{name}.weight"] = torch.full((), float(place)).expand(after, before, 3, 3)
        state[f"{name}.bias"] = torch.full((), -float(place)).expand(after)
    return state


def torchvision() -> State:
    return published([f"features.{place}" for place in FEATURES])


def written(folder: Path, state: State) -> Path:
    path = folder / "vgg19.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("names", [NAMES, [f"features.{place}" for place in FEATURES]])
def test_both_ways_of_naming(names: list[str], tmp_path: Path) -> None:
    found = read_vgg(written(tmp_path, published(names)), WANTED)
    assert list(found) == WANTED
    for place, tensors in enumerate(found.values()):
        assert (tensors["weight"] == place).all()
        assert (tensors["bias"] == -place).all()


def test_what_comes_after_the_wanted_ones_may_be_there_or_not(tmp_path: Path) -> None:
    whole = torchvision() | {"classifier.0.weight": torch.ones(2, 2)}
    short = {
        name: values for name, values in torchvision().items() if not name.startswith(("features.32", "features.34"))
    }
    for state in (whole, short):
        assert list(read_vgg(written(tmp_path, state), WANTED)) == WANTED


def test_safetensors_of_half_precision(tmp_path: Path) -> None:
    state = {name: values.half().contiguous() for name, values in published(NAMES).items() if name.startswith("conv1")}
    save_file(state, tmp_path / "vgg19.safetensors")
    found = read_vgg(tmp_path / "vgg19.safetensors", NAMES[:2])
    assert found["conv1_2"]["weight"].dtype == torch.float32
    assert found["conv1_2"]["weight"].unique().tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: {k: v for k, v in x.items() if k != "features.16.bias"}, r"has no features\.16\.bias, of conv3_4"),
        (
            lambda x: x | {"features.5.weight": torch.ones(4, 3, 3, 3)},
            r"features\.5\.weight is of shape \(4, 3, 3, 3\)",
        ),
        (lambda x: x | {"features.1.weight": torch.ones(64)}, r"has features\.1\.weight, which is not of VGG-19"),
        (lambda _: {}, r"has no features\.0\.weight, of conv1_1"),
        (lambda _: {"conv1_1.weight": torch.ones(64, 3, 3, 3)}, r"has no conv1_1\.bias"),
        (lambda x: {"state_dict": x}, "does not hold tensors by name"),
        (lambda x: list(x.values()), "does not hold tensors by name"),
    ],
)
def test_other_weights_are_refused(change: Callable[[State], State], message: str, tmp_path: Path) -> None:
    path = written(tmp_path, change(torchvision()))
    with pytest.raises(WeightsError, match=rf"vgg19\.pth.*{message}.*Give a file with the convolutions of VGG-19"):
        read_vgg(path, WANTED)


@pytest.mark.parametrize("name", ["vgg19.pth", "vgg19.safetensors"])
def test_a_file_that_could_run_code_is_not_opened(name: str, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "exploded",)

    for data in (pickle.dumps(Bomb(), protocol=2), b"", b"weights"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match=f"{name} holds no tensors, or more than tensors, and is not opened"):
            read_vgg(tmp_path / name, WANTED)
    torch.save({"features.0.weight": Bomb()}, tmp_path / "zipped.pth")
    with pytest.raises(WeightsError, match=r"zipped\.pth holds no tensors, or more than tensors"):
        read_vgg(tmp_path / "zipped.pth", WANTED)
    assert not (tmp_path / "exploded").exists()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights of VGG-19 at .*absent\.pth\. Give a file"):
        read_vgg(tmp_path / "absent.pth", WANTED)

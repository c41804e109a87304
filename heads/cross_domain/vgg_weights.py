"""Weights of VGG-19 from a file, whichever of the two usual ways its layers are named."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file

from matchkit.core.errors import WeightsError

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each block."""
CLASSIFIER = "classifier."
"""How the names of what comes after the convolutions begin in torchvision."""
NEXT = "Give a file with the convolutions of VGG-19, named conv1_1.weight, ... or features.0.weight, ..."
Tensors = dict[str, Float[torch.Tensor, "..."]]


def read_vgg(path: Path, wanted: Sequence[str]) -> dict[str, Tensors]:
    """Weight and bias, float32, of the wanted convolutions such as `conv1_1`; the file must hold those of VGG-19 alone.

    What comes after the wanted ones may be there or not.

    Raises:
        WeightsError: no such file, one that could run code, or one that does not hold the wanted weights.
    """
    state = _tensors(path)
    shapes = _shapes()
    prefixes = {name: name for name in shapes}
    if not any(name.startswith("conv") for name in state):
        prefixes = dict(zip(shapes, _torchvision(), strict=True))
    known = {f"{prefix}.{kind}" for prefix in prefixes.values() for kind in ("weight", "bias")}
    for name in state:
        if name not in known and not name.startswith(CLASSIFIER):
            raise WeightsError(f"{path} has {name}, which is not of VGG-19. {NEXT}")
    found: dict[str, Tensors] = {}
    for name in wanted:
        found[name] = {}
        for kind, shape in (("weight", shapes[name]), ("bias", shapes[name][:1])):
            there = f"{prefixes[name]}.{kind}"
            if there not in state:
                raise WeightsError(f"{path} has no {there}, of {name}. {NEXT}")
            if tuple(state[there].shape) != shape:
                raise WeightsError(f"{path}: {there} is of shape {tuple(state[there].shape)}, not {shape}. {NEXT}")
            found[name][kind] = state[there].float()
    return found


def _shapes() -> dict[str, tuple[int, int, int, int]]:
    """Of the weights of all convolutions, in order."""
    shapes, channels = {}, 3
    for block, (width, count) in enumerate(BLOCKS, 1):
        for number in range(1, count + 1):
            shapes[f"conv{block}_{number}"] = (width, channels, 3, 3)
            channels = width
    return shapes


def _torchvision() -> list[str]:
    """The names of all convolutions in order: torchvision counts the ReLU after each, and the pool after each block."""
    names, place = [], 0
    for _, count in BLOCKS:
        names += [f"features.{place + 2 * number}" for number in range(count)]
        place += 2 * count + 1
    return names


def _tensors(path: Path) -> Mapping[str, torch.Tensor]:
    if not path.is_file():
        raise WeightsError(f"no weights of VGG-19 at {path}. {NEXT}")
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(
            f"{path} holds no tensors, or more than tensors, and is not opened: {reason}. {NEXT}"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} does not hold tensors by name. {NEXT}")
    return state

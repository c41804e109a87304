"""FID's Inception-v3 up to its last pooling, whose 2048 numbers a picture are what FID is measured on.

The network is the one of FID, not that of classification: average pooling that does not count the padding, max pooling
in the last mixed block. The weights are given as the file `pt_inception-2015-12-05-6726825d.pth` (or its tensors as
safetensors), which is never downloaded from here. They were never at hand where this was written: names, shapes and
the number of parameters are tested, the published numbers are not. Structure: Szegedy et al., 2016; the differences:
pytorch-fid (Apache-2.0), whose own results differ slightly from the original TensorFlow code's.
"""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from matchkit.core.errors import WeightsError

WIDTH = 2048
SIDE = 299
"""Pixels: of the square to which every picture is resized."""
NORM_EPSILON = 1e-3
IGNORED = ("fc.weight", "fc.bias")
"""The classifier, in the file and not in the network."""
COUNTER = "num_batches_tracked"
"""Files of old have no such counters; they play no part in evaluation."""
Pool = Literal["average", "max", "halving"]
Resize = Literal["tensorflow", "half-pixel"]
"""`tensorflow`: bilinear with the corners' upper left pixel in place, `x * in / out`, as the original code of FID;
`half-pixel`: bilinear with pixel centres aligned, as pytorch-fid. Neither blurs before it makes a picture smaller."""


@dataclass(frozen=True, slots=True)
class InceptionSettings:
    """What the vectors depend on besides the pictures.

    Attributes:
        resize: how a picture gets to 299 x 299.
        weights: digest of their file.
        layer: what the vectors are.
        range: of the network's input.
    """

    resize: Resize
    weights: str
    layer: str = "pool3"
    range: str = "[-1, 1]"


@dataclass(frozen=True, slots=True)
class _Conv:
    """A convolution of a mixed block by its name in the file; without a stride it keeps the size."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


_Stage = tuple[_Conv, ...]
"""Convolutions side by side whose outputs are concatenated."""


def _conv(name: str, width: int, kernel: int | tuple[int, int] = 1, *, stride: int = 1) -> _Stage:
    return (_Conv(name, width, (kernel, kernel) if isinstance(kernel, int) else kernel, stride),)


def _fork(name: str) -> _Stage:
    return _Conv(f"{name}a", 384, (1, 3)), _Conv(f"{name}b", 384, (3, 1))


class ConvNorm(nn.Module):
    """A convolution without bias, batch normalisation and a ReLU."""

    def __init__(self, width: int, out: int, kernel: tuple[int, int], *, stride: int, padding: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=NORM_EPSILON)

    def forward(self, x: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b d _ _"]:
        """Of maps, maps."""
        return functional.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """A mixed block: branches of convolutions and one of a pooling, side by side.

    Args:
        width: channels that come in.
        branches: the convolutions of each branch.
        pool: that of the last branch: `average` of the pixels that exist, `max`, or `halving` by a maximum.
        pooled: channels of the convolution after the pooling; 0 for none.
    """

    def __init__(self, width: int, *branches: tuple[_Stage, ...], pool: Pool, pooled: int = 0) -> None:
        super().__init__()
        self._pool: Pool = pool
        self._branches = (*branches, (_conv("branch_pool", pooled),) if pooled else ())
        for branch in self._branches:
            coming = width
            for stage in branch:
                for conv in stage:
                    padding = (0, 0) if conv.stride > 1 else (conv.kernel[0] // 2, conv.kernel[1] // 2)
                    made = ConvNorm(coming, conv.width, conv.kernel, stride=conv.stride, padding=padding)
                    self.add_module(conv.name, made)
                coming = sum(conv.width for conv in stage)

    def forward(self, x: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b d _ _"]:
        """The outputs of the branches, concatenated."""
        *branches, pooling = self._branches
        outputs = [self._along(branch, x) for branch in branches]
        return torch.cat([*outputs, self._along(pooling, self._pooled(x))], dim=1)

    def _along(self, branch: tuple[_Stage, ...], x: torch.Tensor) -> torch.Tensor:
        for stage in branch:
            x = torch.cat([self.get_submodule(conv.name)(x) for conv in stage], dim=1)
        return x

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        if self._pool == "average":
            return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        if self._pool == "max":
            return functional.max_pool2d(x, 3, stride=1, padding=1)
        return functional.max_pool2d(x, 3, stride=2)


def _early(width: int, pooled: int) -> Mixed:
    """A block at 35 x 35."""
    return Mixed(
        width,
        (_conv("branch1x1", 64),),
        (_conv("branch5x5_1", 48), _conv("branch5x5_2", 64, 5)),
        (_conv("branch3x3dbl_1", 64), _conv("branch3x3dbl_2", 96, 3), _conv("branch3x3dbl_3", 96, 3)),
        pool="average",
        pooled=pooled,
    )


def _middle(inner: int) -> Mixed:
    """A block at 17 x 17."""
    row, column = (1, 7), (7, 1)
    return Mixed(
        768,
        (_conv("branch1x1", 192),),
        (_conv("branch7x7_1", inner), _conv("branch7x7_2", inner, row), _conv("branch7x7_3", 192, column)),
        (
            _conv("branch7x7dbl_1", inner),
            _conv("branch7x7dbl_2", inner, column),
            _conv("branch7x7dbl_3", inner, row),
            _conv("branch7x7dbl_4", inner, column),
            _conv("branch7x7dbl_5", 192, row),
        ),
        pool="average",
        pooled=192,
    )


def _late(width: int, pool: Pool) -> Mixed:
    """A block at 8 x 8."""
    return Mixed(
        width,
        (_conv("branch1x1", 320),),
        (_conv("branch3x3_1", 384), _fork("branch3x3_2")),
        (_conv("branch3x3dbl_1", 448), _conv("branch3x3dbl_2", 384, 3), _fork("branch3x3dbl_3")),
        pool=pool,
        pooled=192,
    )


class Inception(nn.Module):
    """The network without its classifier, for evaluation only.

    Args:
        settings: what its vectors mean.
    """

    def __init__(self, settings: InceptionSettings) -> None:
        super().__init__()
        self.settings = settings
        three, one, none, same = (3, 3), (1, 1), (0, 0), (1, 1)
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, three, stride=2, padding=none)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, three, stride=1, padding=none)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, three, stride=1, padding=same)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, one, stride=1, padding=none)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, three, stride=1, padding=none)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _early(192, 32), _early(256, 64), _early(288, 64)
        self.Mixed_6a = Mixed(
            288,
            (_conv("branch3x3", 384, 3, stride=2),),
            (
                _conv("branch3x3dbl_1", 64),
                _conv("branch3x3dbl_2", 96, 3),
                _conv("branch3x3dbl_3", 96, 3, stride=2),
            ),
            pool="halving",
        )
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_middle(inner) for inner in (128, 160, 160, 192))
        self.Mixed_7a = Mixed(
            768,
            (_conv("branch3x3_1", 192), _conv("branch3x3_2", 320, 3, stride=2)),
            (
                _conv("branch7x7x3_1", 192),
                _conv("branch7x7x3_2", 192, (1, 7)),
                _conv("branch7x7x3_3", 192, (7, 1)),
                _conv("branch7x7x3_4", 192, 3, stride=2),
            ),
            pool="halving",
        )
        # the last block's maximum is a peculiarity of the published weights
        self.Mixed_7b, self.Mixed_7c = _late(1280, "average"), _late(WIDTH, "max")
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, pictures: Float[torch.Tensor, "b 3 h w"]) -> Float[torch.Tensor, "b 2048"]:
        """The vectors of pictures in [0, 1]."""
        x = 2 * resized(pictures, self.settings.resize) - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = functional.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = functional.max_pool2d(x, 3, stride=2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean(dim=(2, 3))


def resized(pictures: Float[torch.Tensor, "b 3 h w"], resize: Resize) -> Float[torch.Tensor, "b 3 299 299"]:
    """Pictures at 299 x 299."""
    if resize == "half-pixel":
        return functional.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return _stretched(_stretched(pictures, axis=2), axis=3)


def _stretched(pictures: Float[torch.Tensor, "b 3 h w"], *, axis: int) -> Float[torch.Tensor, "b 3 _ _"]:
    length = pictures.shape[axis]
    at = torch.arange(SIDE, device=pictures.device) * (length / SIDE)
    before = at.floor().long()
    shape = [1, 1, 1, 1]
    shape[axis] = SIDE
    towards = (at - before).view(shape).to(pictures)
    low = pictures.index_select(axis, before)
    high = pictures.index_select(axis, (before + 1).clamp_max(length - 1))
    return torch.lerp(low, high, towards)


def load_inception(path: Path, *, device: torch.device, resize: Resize = "tensorflow") -> Inception:
    """The network with the weights of a file: `.safetensors`, or anything else that torch has written.

    Raises:
        WeightsError: the file is missing, could run code, or is not of this network.
    """
    if not path.exists():
        raise WeightsError(
            f"no Inception weights at {path}; FID needs pt_inception-2015-12-05-6726825d.pth, which pytorch-fid's "
            "releases hold. Give its path, or use the Frechet distance of DINO vectors"
        )
    with path.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    with torch.device("meta"):
        network = Inception(InceptionSettings(resize, digest))
    tensors = _fitting(_read(path), network.state_dict(), path)
    counters = {name: torch.tensor(0) for name in network.state_dict() if name.endswith(COUNTER)}
    network.load_state_dict(tensors | counters, assign=True)
    return network.requires_grad_(requires_grad=False).to(device)


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
    # of what is no checkpoint torch raises whatever its parts do
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path} holds no weights that can be read safely: {reason}") from error
    if not isinstance(held, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in held.values()):
        raise WeightsError(f"{path} is not a table of tensors by name")
    return held


def _fitting(
    held: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], path: Path
) -> dict[str, torch.Tensor]:
    """The tensors of the network, each there and of its shape, and nothing besides that is not known."""
    wanted = {name: tensor.shape for name, tensor in state.items() if not name.endswith(COUNTER)}
    missing = [name for name in wanted if name not in held]
    strange = [name for name in held if name not in state and name not in IGNORED]
    misfit = [name for name, shape in wanted.items() if name in held and held[name].shape != shape]
    for names, fault in ((missing, "lacks"), (strange, "has besides"), (misfit, "has of another shape")):
        if names:
            raise WeightsError(
                f"{path} is not FID's Inception network: it {fault} {len(names)} of its tensors, e.g. '{names[0]}'. "
                "Give pt_inception-2015-12-05-6726825d.pth"
            )
    return {name: held[name].float() for name in wanted}

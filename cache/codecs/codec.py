"""How maps are encoded at rest: each codec declared, versioned, with an exact decoder."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Shaped

from matchkit.core.errors import StoreError, nearest_name
from matchkit.core.spec import LayerSpec

CODECS: Mapping[str, str] = {
    "fp16": "16 bits a value, half precision",
    "fp32": "32 bits a value, single precision, exact",
    "bf16": "16 bits a value, the range of fp32 with 8 significant bits",
    "int8": "8 bits a value, a scale for each position",
    "int4": "4 bits a value, a scale for each 64 channels of a position",
    "pca-<r>": "16 bits a coefficient, the first r principal components of each layer and timestep, e.g. pca-64",
}
"""The codecs by the name that a spec's `dtype` has, a line each."""

BLOCK = 1 << 19
"""Values that a CPU works on at a time: in single precision 2 MiB, so that all steps but the first and last find them
in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the arrays that hold a layer at rest.

    Attributes:
        suffix: what follows the layer's name in the array's: "" for the values, e.g. ".scale" for what goes with them.
        dtype: the number type on the disk, one that zarr v3 has.
        cell: the shape of one timestep, e.g. (h, w, c).
    """

    suffix: str
    dtype: np.dtype[Any]
    cell: tuple[int, ...]


@runtime_checkable
class Codec(Protocol):
    """Maps to arrays and back.

    Attributes:
        name: as the spec's `dtype` has it, e.g. `int8`.
        version: raised when the same name starts to mean other bytes.
        decoded: the type of the maps that `decode` gives.
        plain: whether the only part's memory is the maps' own, so that nothing is left to decode.
    """

    name: str
    version: int
    decoded: torch.dtype
    plain: bool

    def parts(self, layer: LayerSpec) -> tuple[Part, ...]:
        """The arrays that hold a layer; the first has no suffix."""
        ...

    def encode(
        self, layer: LayerSpec, values: Shaped[torch.Tensor, "t gh gw c"]
    ) -> tuple[Shaped[torch.Tensor, "t ..."], ...]:
        """Contiguous values for each of the parts."""
        ...

    def decode(
        self,
        layer: LayerSpec,
        parts: Sequence[Shaped[torch.Tensor, "t ..."]],
        steps: Sequence[int],
        *,
        out: Shaped[torch.Tensor, "t gh gw c"] | None = None,
    ) -> Shaped[torch.Tensor, "t gh gw c"]:
        """The maps; `steps` are the positions of the given timesteps on the stored axis.

        They are in `out`, contiguous memory of their type, unless they are the memory of the first part itself.
        """
        ...


def codec(dtype: str, statics: Mapping[str, torch.Tensor] | None = None) -> Codec:
    """The codec that a spec's `dtype` names.

    Args:
        dtype: a name of `CODECS`, e.g. `int8` or `pca-64`.
        statics: what belongs to a layer and to no image, e.g. {"up0.0.basis": ..., "up0.0.mean": ...}.

    Raises:
        StoreError: there is no such codec; the message gives the nearest one.
    """
    if dtype in ("fp16", "fp32"):
        return Plain(dtype)
    if dtype == "bf16":
        return BFloat16()
    if dtype in ("int8", "int4"):
        from matchkit.cache.codecs.quantised import Int4, Int8

        return Int8() if dtype == "int8" else Int4()
    if rank := re.fullmatch(r"pca-([1-9][0-9]*)", dtype):
        from matchkit.cache.codecs.pca import Pca

        return Pca(int(rank[1]), statics or {})
    hint = nearest_name(dtype, [name.replace("<r>", "64") for name in CODECS])
    raise StoreError(f"no codec '{dtype}'.{hint} There are: {', '.join(CODECS)}")


class Plain:
    """The values as they are, in half or single precision."""

    version = 1
    plain = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.decoded = {"fp16": torch.float16, "fp32": torch.float32}[name]
        self._at_rest = np.dtype({"fp16": "float16", "fp32": "float32"}[name])

    def parts(self, layer: LayerSpec) -> tuple[Part, ...]:
        """One array."""
        return (Part("", self._at_rest, (*layer.grid, layer.channels)),)

    def encode(
        self, layer: LayerSpec, values: Shaped[torch.Tensor, "t gh gw c"]
    ) -> tuple[Shaped[torch.Tensor, "t ..."], ...]:
        """The values rounded to the type; the very tensor where it has it and lies in order."""
        return (in_order(values.to(self.decoded)),)

    def decode(
        self,
        layer: LayerSpec,
        parts: Sequence[Shaped[torch.Tensor, "t ..."]],
        steps: Sequence[int],
        *,
        out: Shaped[torch.Tensor, "t gh gw c"] | None = None,
    ) -> Shaped[torch.Tensor, "t gh gw c"]:
        """The very tensor that is given."""
        return parts[0]


class BFloat16:
    """The upper half of single precision, rounded to the nearest even; its bits as uint16, for zarr has no bfloat16."""

    name = "bf16"
    version = 1
    plain = True
    decoded = torch.bfloat16

    def parts(self, layer: LayerSpec) -> tuple[Part, ...]:
        """One array of bits."""
        return (Part("", np.dtype(np.uint16), (*layer.grid, layer.channels)),)

    def encode(
        self, layer: LayerSpec, values: Shaped[torch.Tensor, "t gh gw c"]
    ) -> tuple[Shaped[torch.Tensor, "t ..."], ...]:
        """The bits of the rounded values."""
        rows = in_order(values).flatten(0, 2)
        rounded = rows.new_empty(rows.shape, dtype=torch.bfloat16)
        for block, x in work(rows, layer.channels):  # through single precision, for half to bfloat16 is slow
            rounded[block] = x.copy_(rows[block])
        return (rounded.view(torch.uint16).view(values.shape),)

    def decode(
        self,
        layer: LayerSpec,
        parts: Sequence[Shaped[torch.Tensor, "t ..."]],
        steps: Sequence[int],
        *,
        out: Shaped[torch.Tensor, "t gh gw c"] | None = None,
    ) -> Shaped[torch.Tensor, "t gh gw c"]:
        """The same memory, read as bfloat16."""
        return parts[0].view(torch.bfloat16)


def work(rows: Shaped[torch.Tensor, "n _"], width: int) -> Iterator[tuple[slice, Float[torch.Tensor, "_ width"]]]:
    """Slices of the rows, each with the same memory to work in."""
    count = max(1, BLOCK // width if rows.device.type == "cpu" else len(rows))
    memory = torch.empty(min(count, len(rows)), width, device=rows.device)
    for start in range(0, len(rows), count):
        block = slice(start, min(start + count, len(rows)))
        yield block, memory[: block.stop - block.start]


def in_order(values: Shaped[torch.Tensor, "t gh gw c"]) -> Shaped[torch.Tensor, "t gh gw c"]:
    """The values with the channels of a position side by side; the very tensor where they lie so."""
    if values.is_contiguous():
        return values
    ordered = torch.empty(values.shape, dtype=values.dtype, device=values.device)
    # torch transposes matrices by tiles, anything of more axes value by value
    for into, step in zip(ordered.flatten(1, 2), values.flatten(1, 2), strict=True):
        into.copy_(step)
    return ordered

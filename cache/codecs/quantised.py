"""Maps as small whole numbers times scales: the codecs `int8` and `int4`."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float16, Shaped

from matchkit.cache.codecs.codec import Part, in_order, work
from matchkit.core.errors import StoreError
from matchkit.core.spec import LayerSpec

GROUP = 64
"""Channels that share a scale in int4."""

LARGEST = 65504.0
"""The largest number of half precision."""


class Int8:
    """Whole numbers of -127..127 times a scale for each position and timestep (see `quantise`).

    A value is the number times the scale, rounded once to half precision. The product has 18 bits at most and is
    exact in single precision, so every machine decodes to the same bits.
    """

    name = "int8"
    version = 1
    plain = False
    decoded = torch.float16

    def parts(self, layer: LayerSpec) -> tuple[Part, ...]:
        """The numbers, and `.scale`."""
        numbers = Part("", np.dtype(np.int8), (*layer.grid, layer.channels))
        return numbers, Part(".scale", np.dtype(np.float16), layer.grid)

    def encode(
        self, layer: LayerSpec, values: Shaped[torch.Tensor, "t gh gw c"]
    ) -> tuple[Shaped[torch.Tensor, "t ..."], ...]:
        """The numbers and the scales.

        Raises:
            StoreError: a value is NaN, infinite or beyond half precision.
        """
        rows = in_order(values).flatten(0, 2)
        numbers = rows.new_empty(rows.shape, dtype=torch.int8)
        scales = rows.new_empty(len(rows), dtype=torch.float16)
        for block, x in work(rows, layer.channels):
            x.copy_(rows[block])
            scales[block] = quantise(x, levels=127, where=f"int8 cannot hold layer '{layer.name}'")
            numbers[block] = x
        return numbers.view(values.shape), scales.view(values.shape[:3])

    def decode(
        self,
        layer: LayerSpec,
        parts: Sequence[Shaped[torch.Tensor, "t ..."]],
        steps: Sequence[int],
        *,
        out: Shaped[torch.Tensor, "t gh gw c"] | None = None,
    ) -> Shaped[torch.Tensor, "t gh gw c"]:
        """The numbers times their scales."""
        numbers, scales = parts[0].flatten(0, 2), parts[1].flatten().float()
        rows = numbers.new_empty(numbers.shape, dtype=torch.float16) if out is None else out.flatten(0, 2)
        # torch converts int8 to half one value at a time, but to single, and single to half, eight
        for block, x in work(numbers, layer.channels):
            rows[block] = x.copy_(numbers[block]).mul_(scales[block, None])
        return rows.view(parts[0].shape)


class Int4:
    """Whole numbers of -7..7 times a scale for each 64 channels of a position and timestep (see `quantise`).

    A number n is kept as n + 8 in half a byte, the even channel in the lower half; after an odd last channel comes 8.
    The last group is shorter where the channels are no multiple of 64. A value is the number times the scale, rounded
    once to half precision, the same bits on every machine.
    """

    name = "int4"
    version = 1
    plain = False
    decoded = torch.float16

    def parts(self, layer: LayerSpec) -> tuple[Part, ...]:
        """The bytes, and `.scale`."""
        pairs = Part("", np.dtype(np.uint8), (*layer.grid, -(-layer.channels // 2)))
        return pairs, Part(".scale", np.dtype(np.float16), (*layer.grid, -(-layer.channels // GROUP)))

    def encode(
        self, layer: LayerSpec, values: Shaped[torch.Tensor, "t gh gw c"]
    ) -> tuple[Shaped[torch.Tensor, "t ..."], ...]:
        """The bytes and the scales.

        Raises:
            StoreError: a value is NaN, infinite or beyond half precision.
        """
        pairs, scales = (part.cell[-1] for part in self.parts(layer))
        rows = in_order(values).flatten(0, 2)
        packed = rows.new_empty((len(rows), pairs), dtype=torch.uint8)
        scale = rows.new_empty((len(rows), scales), dtype=torch.float16)
        for block, x in work(rows, scales * GROUP):
            x[:, : layer.channels], x[:, layer.channels :] = rows[block], 0
            groups = x.unflatten(1, (scales, GROUP))
            scale[block] = quantise(groups, levels=7, where=f"int4 cannot hold layer '{layer.name}'")
            two = x.to(torch.int8).add_(8).view(torch.int16)
            packed[block] = two.bitwise_or_(two >> 4)[:, :pairs]  # of which the lower byte is kept
        return packed.view(*values.shape[:3], pairs), scale.view(*values.shape[:3], scales)

    def decode(
        self,
        layer: LayerSpec,
        parts: Sequence[Shaped[torch.Tensor, "t ..."]],
        steps: Sequence[int],
        *,
        out: Shaped[torch.Tensor, "t gh gw c"] | None = None,
    ) -> Shaped[torch.Tensor, "t gh gw c"]:
        """The numbers times their scales."""
        packed, scales = parts[0].flatten(0, 2), parts[1].flatten(0, 2).float()
        (count, pairs), groups = packed.shape, scales.shape[1]
        rows = packed.new_empty((count, layer.channels), dtype=torch.float16) if out is None else out.flatten(0, 2)
        for block, x in work(packed, groups * GROUP):
            two = torch.empty(len(x), groups * GROUP // 2, dtype=torch.int16, device=packed.device)
            two[:, :pairs] = packed[block]
            numbers = two.bitwise_or_(two << 4).bitwise_and_(0x0F0F).view(torch.int8).sub_(8)
            x.copy_(numbers).unflatten(1, (groups, GROUP)).mul_(scales[block, :, None])
            rows[block] = x[:, : layer.channels]
        return rows.view(*parts[0].shape[:3], layer.channels)


def quantise(x: Float[torch.Tensor, "*groups k"], *, levels: int, where: str) -> Float16[torch.Tensor, "*groups"]:
    """Makes each group the nearest whole numbers of -levels..levels times a scale, in place, and gives the scales.

    The scale is the group's largest magnitude by `levels`, rounded to half precision: to the nearest, but up where the
    magnitude would reach levels + 1/2 scales (only below 2**-14, where half precision gets coarse), and down where the
    decoded magnitude would overflow. It is never 0; a group of zeros has the smallest scale, 2**-24. The values are
    divided by the rounded scale in single precision and rounded to the nearest, ties to the even number.

    Quantising what was decoded gives the same numbers and scales again where the values had half precision and the
    scale is 2**-14 or more. Values of single precision may see the scale move by its last bit, once.

    Raises:
        StoreError: a value is NaN, infinite or beyond half precision.
    """
    largest = torch.maximum(x.amax(-1), -x.amin(-1)).abs_()  # no -0, whose bits are not those of 0
    if not bool((largest <= LARGEST).all()):
        raise StoreError(f"{where}: it has values that are NaN, infinite or beyond 65,504. Store it as fp32 or bf16")
    scale = (largest / levels).half()
    up, down = largest >= (levels + 0.5) * scale.float(), levels * scale.float() > LARGEST
    scale.view(torch.int16).add_(up.short() - down.short())  # the next number of half precision has the next bits
    x.div_(scale.float().unsqueeze(-1)).round_()
    return scale

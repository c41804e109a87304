"""One map out of somebody's file, checked against the layer that it is to be."""

from collections.abc import Sequence

import torch
from jaxtyping import Float

from matchkit.core.errors import StoreError
from matchkit.core.spec import LayerSpec


def to_map(values: object, layer: LayerSpec, *, dtype: str, where: str) -> Float[torch.Tensor, "1 c gh gw"]:
    """The map of a layer at its one timestep, in half precision where the store's `dtype` is that, else in single.

    Args:
        values: what was found: (c,gh,gw) or (1,c,gh,gw), of any floating-point type.
        layer: what it must be.
        dtype: of the store that it goes into.
        where: names it in a message.

    Raises:
        StoreError: it is no dense floating-point tensor, of another shape, or has values that the store cannot keep.
    """
    if not isinstance(values, torch.Tensor) or not values.is_floating_point() or values.layout != torch.strided:
        raise StoreError(f"{where} is no dense tensor of floating-point numbers. Is this file of another format?")
    wanted = (1, layer.channels, *layer.grid)
    whole = values.detach()[None] if values.ndim == 3 else values.detach()
    if tuple(whole.shape) != wanted:
        raise StoreError(f"{where} is {times(values.shape)}, not {times(wanted)} as layer '{layer.name}' is")
    limit = torch.finfo(torch.float32 if dtype in ("fp32", "bf16") else torch.float16).max
    smallest, largest = torch.aminmax(whole)
    if not bool(-limit <= smallest and largest <= limit):
        if bool(whole.isfinite().all()):
            raise StoreError(f"{where} has values beyond {dtype}. Import into a new store with --dtype fp32")
        raise StoreError(f"{where} has values that are NaN or infinite. Compute these features anew")
    return whole.to(torch.float16 if dtype == "fp16" else torch.float32)


def times(shape: Sequence[int]) -> str:
    """A shape as people write it, `1 x 640 x 60 x 60`."""
    return " x ".join(str(length) for length in shape)

"""A map out of a file is what its layer is, or refused by name."""

import pytest
import torch

from matchkit.cache.interchange.maps import to_map
from matchkit.core.errors import StoreError
from matchkit.core.spec import LayerSpec

LAYER = LayerSpec("up1", 3, (2, 4))


def test_with_and_without_an_axis_of_one() -> None:
    values = torch.randn(3, 2, 4)
    for given in (values, values[None], values.double(), values.clone().requires_grad_()):
        kept = to_map(given, LAYER, dtype="fp32", where="x")
        assert kept.dtype == torch.float32
        assert not kept.requires_grad
        assert torch.equal(kept[0], values)
    assert torch.equal(to_map(values, LAYER, dtype="fp16", where="x")[0], values.half())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(3, 4, 2), "x is 3 x 4 x 2, not 1 x 3 x 2 x 4 as layer 'up1' is"),
        (torch.zeros(2, 3, 2, 4), "x is 2 x 3 x 2 x 4, not"),
        (torch.zeros(3, 2, 4, dtype=torch.int32), "x is no dense tensor of floating-point numbers"),
        (torch.zeros(3, 2, 4).to_sparse(), "x is no dense tensor"),
        ("text", "x is no dense tensor"),
        (torch.full((3, 2, 4), 1e5), "x has values beyond fp16. Import into a new store with --dtype fp32"),
        (torch.full((3, 2, 4), float("nan")), "x has values that are NaN or infinite"),
        (torch.full((3, 2, 4), float("inf")), "x has values that are NaN or infinite"),
    ],
)
def test_what_is_refused(values: object, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        to_map(values, LAYER, dtype="fp16", where="x")


def test_whole_numbers_with_scales_reach_as_far_as_half_precision() -> None:
    values = torch.full((3, 2, 4), -1e5)
    for dtype in ("int8", "int4"):
        with pytest.raises(StoreError, match=f"x has values beyond {dtype}"):
            to_map(values, LAYER, dtype=dtype, where="x")
    for dtype in ("fp32", "bf16"):
        assert torch.equal(to_map(values, LAYER, dtype=dtype, where="x")[0], values)

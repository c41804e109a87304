"""Bytes and values of hand-made maps, and what holds for any maps."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from matchkit.cache.codecs.codec import CODECS, Codec, Part, codec
from matchkit.core.errors import StoreError
from matchkit.core.spec import LayerSpec

ALL = ("fp16", "fp32", "bf16", "int8", "int4", "pca-2")
SMALLEST = 2.0**-24
LEVELS = {"int8": 127, "int4": 7}
GROUPS = {"int8": 10**6, "int4": 64}

few = settings(max_examples=50, deadline=None, database=None)
shapes = array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=5).map(
    lambda shape: (*shape[:3], shape[3] * 33 - 32)
)


def drawn(width: int) -> st.SearchStrategy[np.ndarray]:
    """Maps (t,gh,gw,c) of 16 or 32 bits, of any finite values that half precision holds, up to 133 channels."""
    limit = 65504.0
    dtype: Any = {16: np.float16, 32: np.float32}[width]
    return arrays(dtype, shapes, elements=st.floats(-limit, limit, width=32 if width == 32 else 16))


def layer_of(values: torch.Tensor) -> LayerSpec:
    return LayerSpec("up0.0", values.shape[3], (values.shape[1], values.shape[2]))


def coded(name: str, values: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """What is at rest, and what comes back."""
    parts = codec(name).encode(layer_of(values), values)
    return parts, codec(name).decode(layer_of(values), parts, range(len(values)))


def position(*values: float) -> torch.Tensor:
    """A map of one cell."""
    return torch.tensor(values).view(1, 1, 1, -1)


def spread(scales: torch.Tensor, name: str, channels: int) -> torch.Tensor:
    """The scale of every value (t,gh,gw,c)."""
    each = scales.double() if scales.ndim == 4 else scales.double()[..., None]
    return each.repeat_interleave(GROUPS[name] if name == "int4" else channels, 3)[..., :channels]


def without_the_tiny(name: str, values: torch.Tensor) -> torch.Tensor:
    """The values with 0 where the scale is below the normal numbers of half precision."""
    scales = coded(name, values)[0][1]
    return values * (spread(scales, name, values.shape[3]) >= 2**-14)


def statics(layer: LayerSpec, timesteps: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(timesteps, layer.channels, 2, generator=generator))[0].mT
    return {"up0.0.basis": basis, "up0.0.mean": torch.randn(timesteps, layer.channels, generator=generator)}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("fp16", [Part("", np.dtype(np.float16), (2, 3, 67))]),
        ("fp32", [Part("", np.dtype(np.float32), (2, 3, 67))]),
        ("bf16", [Part("", np.dtype(np.uint16), (2, 3, 67))]),
        ("int8", [Part("", np.dtype(np.int8), (2, 3, 67)), Part(".scale", np.dtype(np.float16), (2, 3))]),
        ("int4", [Part("", np.dtype(np.uint8), (2, 3, 34)), Part(".scale", np.dtype(np.float16), (2, 3, 2))]),
        ("pca-2", [Part("", np.dtype(np.float16), (2, 3, 2))]),
        ("pca-100", [Part("", np.dtype(np.float16), (2, 3, 67))]),
    ],
)
def test_the_arrays_of_a_layer(name: str, parts: list[Part]) -> None:
    assert list(codec(name).parts(LayerSpec("up0.0", 67, (2, 3)))) == parts


@pytest.mark.parametrize("name", ALL)
def test_what_is_encoded_fills_the_arrays(name: str) -> None:
    values = torch.randn(3, 67, 2, 4).permute(0, 2, 3, 1)
    layer = layer_of(values)
    coder = codec(name, statics(layer, 3))
    assert isinstance(coder, Codec)
    assert (coder.name, coder.version) == (name, 1)
    parts = coder.encode(layer, values)
    for part, array in zip(coder.parts(layer), parts, strict=True):
        assert array.shape == (3, *part.cell)
        assert array.numpy().dtype == part.dtype
        assert array.is_contiguous()
    maps = coder.decode(layer, parts, range(3))
    assert maps.shape == values.shape
    assert maps.dtype == coder.decoded


@pytest.mark.parametrize("name", ALL)
def test_the_order_in_memory_and_the_size_of_a_block_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(3, 67, 2, 4).permute(0, 2, 3, 1)
    coder = codec(name, statics(layer_of(values), 3))
    whole = coder.encode(layer_of(values), values.contiguous())
    maps = coder.decode(layer_of(values), whole, range(3))
    monkeypatch.setattr("matchkit.cache.codecs.codec.BLOCK", 300)
    pieces = coder.encode(layer_of(values), values)
    for one, other in zip(whole, pieces, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3 if name == "pca-2" else 0, atol=0)
    again = coder.decode(layer_of(values), whole, range(3))
    torch.testing.assert_close(maps, again, rtol=1e-3 if name == "pca-2" else 0, atol=0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("steps", [[2], [0, 2], [2, 1, 0], []])
def test_some_timesteps_are_those_of_all(name: str, steps: list[int]) -> None:
    values = torch.randn(3, 2, 4, 67)
    layer = layer_of(values)
    coder = codec(name, statics(layer, 3))
    parts = coder.encode(layer, values)
    some = coder.decode(layer, [part[steps] for part in parts], steps)
    assert torch.equal(some, coder.decode(layer, parts, range(3))[steps])


@pytest.mark.parametrize(("name", "dtype"), [("fp16", torch.float16), ("fp32", torch.float32)])
def test_plain_values_are_handed_through(name: str, dtype: torch.dtype) -> None:
    values = torch.randn(3, 2, 4, 5)
    (part,), maps = coded(name, values)
    assert torch.equal(part, values.to(dtype))
    assert maps is part


def test_bf16_bits() -> None:
    values = position(1, -2.5, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, float("inf"), -0.0)
    (part,), maps = coded("bf16", values)
    assert part.flatten().tolist() == [0x3F80, 0xC020, 0x3F80, 0x3F82, 0x7F80, 0x7F80, 0x8000]
    assert maps.flatten().tolist() == [1, -2.5, 1, 1 + 2**-6, float("inf"), float("inf"), 0]
    assert maps.data_ptr() == part.data_ptr()


@few
@given(width=st.sampled_from([16, 32]), data=st.data())
def test_bf16_rounds_as_torch(width: int, data: st.DataObject) -> None:
    values = torch.from_numpy(data.draw(arrays(f"f{width // 8}", shapes, elements=st.floats(width=width))))
    torch.testing.assert_close(coded("bf16", values)[1], values.bfloat16(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("values", "numbers", "scale", "decoded"),
    [
        ([127, -63.5, 0.5, 1.5, -126.4], [127, -64, 0, 2, -126], 1, [127, -64, 0, 2, -126]),
        # 1/127 is 1032.06/1024 x 2**-7: the divisor is the rounded one; 38 x it is 1225.5 / 2**12
        ([1, -0.3, 0.5], [127, -38, 64], 1032 / 2**17, [1, -1226 / 2**12, 0.50390625]),
        ([65504, -65504, 1000], [127, -127, 2], 515.5, [65472, -65472, 1031]),
        ([0, -0.0], [0, 0], SMALLEST, [0, 0]),
        ([1e-30, -1e-30], [0, 0], SMALLEST, [0, 0]),
        ([SMALLEST, -127 * SMALLEST, 0], [1, -127, 0], SMALLEST, [SMALLEST, -127 * SMALLEST, 0]),
        ([127.49 * SMALLEST, 0], [127, 0], SMALLEST, [127 * SMALLEST, 0]),
        ([127.5 * SMALLEST, 0], [64, 0], 2 * SMALLEST, [128 * SMALLEST, 0]),
        # to the nearest the scale were one smallest number, and 128 would be cut off
        ([128 * SMALLEST, 3 * SMALLEST], [64, 2], 2 * SMALLEST, [128 * SMALLEST, 4 * SMALLEST]),
    ],
)
def test_int8_numbers(values: list[float], numbers: list[int], scale: float, decoded: list[float]) -> None:
    (part, scales), maps = coded("int8", position(*values))
    assert part.flatten().tolist() == numbers
    assert scales.flatten().tolist() == [scale]
    assert maps.flatten().tolist() == decoded


def test_int8_has_a_scale_for_each_position_and_timestep() -> None:
    values = torch.tensor([127.0, 254, 63.5, 0.0]).view(2, 1, 2, 1) * torch.tensor([1.0, -0.5])
    (part, scales), maps = coded("int8", values)
    assert scales.flatten().tolist() == [1, 2, 0.5, SMALLEST]
    assert part.flatten().tolist() == [127, -64, 127, -64, 127, -64, 0, 0]
    assert maps.flatten().tolist() == [127, -64, 254, -128, 63.5, -32, 0, 0]


@pytest.mark.parametrize(
    ("values", "data", "scale", "decoded"),
    [
        ([7, -7, 0, 3.5, 1], [0x1F, 0xC8, 0x89], [1], [7, -7, 0, 4, 1]),
        ([0, -0.0, 0, 0], [0x88, 0x88], [SMALLEST], [0, 0, 0, 0]),
        ([65504, -20000], [0x6F], [9352], [65472, -18704]),
        ([8 * SMALLEST, SMALLEST], [0x8C], [2 * SMALLEST], [8 * SMALLEST, 0]),
        ([*[7, -1] * 32, 14, -2, 3], [*[0x7F] * 32, 0x7F, 0x8A], [1, 2], [*[7, -1] * 32, 14, -2, 4]),
    ],
)
def test_int4_bytes(values: list[float], data: list[int], scale: list[float], decoded: list[float]) -> None:
    (part, scales), maps = coded("int4", position(*values))
    assert part.flatten().tolist() == data
    assert scales.flatten().tolist() == scale
    assert maps.flatten().tolist() == decoded


@pytest.mark.parametrize("name", ["int8", "int4"])
@few
@given(width=st.sampled_from([16, 32]), data=st.data())
def test_the_error_is_half_a_scale_and_a_rounding(name: str, width: int, data: st.DataObject) -> None:
    values = torch.from_numpy(data.draw(drawn(width)))
    (_, scales), maps = coded(name, values)
    assert bool(maps.isfinite().all())
    rounding = torch.from_numpy(np.abs(np.spacing(maps.numpy()))).double() / 2
    slack = 1 + 2**-20  # of the division in single precision
    bound = spread(scales, name, values.shape[3]) / 2 * slack + rounding
    assert bool(((maps.double() - values.double()).abs() <= bound).all())


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_every_number_of_half_precision_is_held(name: str) -> None:
    values = torch.arange(0x7C00, dtype=torch.int16).view(torch.float16).view(-1, 1, 1, 1)
    (_, scales), maps = coded(name, values)
    rounding = torch.from_numpy(np.spacing(maps.numpy())).double() / 2
    assert bool(((maps.double() - values.double()).abs() <= spread(scales, name, 1) / 2 + rounding).all())
    assert bool((scales > 0).all())


@pytest.mark.parametrize("name", ["int8", "int4"])
@few
@given(data=st.data())
def test_what_was_decoded_is_encoded_to_the_same_bytes(name: str, data: st.DataObject) -> None:
    parts, maps = coded(name, without_the_tiny(name, torch.from_numpy(data.draw(drawn(16)))))
    for first, second in zip(parts, coded(name, maps)[0], strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["int8", "int4"])
@few
@given(data=st.data())
def test_after_single_precision_the_scale_moves_by_a_bit_once(name: str, data: st.DataObject) -> None:
    parts, maps = coded(name, without_the_tiny(name, torch.from_numpy(data.draw(drawn(32)))))
    again, maps_again = coded(name, maps)
    assert torch.equal(parts[0], again[0])
    assert int((parts[1].view(torch.int16) - again[1].view(torch.int16)).abs().max()) <= 1
    for second, third in zip(again, coded(name, maps_again)[0], strict=True):
        assert torch.equal(second, third)


@pytest.mark.parametrize("name", ["int8", "int4"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 65505.0])
def test_what_cannot_be_quantised_is_refused(name: str, value: float) -> None:
    values = torch.zeros(1, 2, 2, 70)
    values[0, 1, 0, 69] = value
    with pytest.raises(StoreError, match=rf"{name} cannot hold layer 'up0\.0': it has values that are NaN, infinite"):
        coded(name, values)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("int88", "Did you mean 'int8'"),
        ("pca64", "Did you mean 'pca-64'"),
        ("pca-0", "Did you mean 'pca-64'"),
        ("", ""),
    ],
)
def test_an_unknown_name(name: str, hint: str) -> None:
    with pytest.raises(
        StoreError, match=rf"no codec '{name}'\.{f' {hint}.' if hint else ''} There are: fp16, fp32, bf"
    ):
        codec(name)


def test_every_listed_codec_is_there() -> None:
    for name in CODECS:
        assert codec(name.replace("<r>", "3")).name.startswith(name.partition("<")[0])

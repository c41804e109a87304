"""What made a feature map: the digest, the JSON, the difference."""

import dataclasses
import json
from typing import Any

import pytest

from matchkit.core.errors import SpecMismatchError, StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 8, (2, 3)), LayerSpec("up1.0", 4, (4, 6)))
SPEC = FeatureSpec(
    "sd-inversion", "sha256:01", LAYERS, (-1, 460), (48, 32), "stretch", "fp16", {"steps": 50, "prompt": ""}
)
CHANGES: list[dict[str, Any]] = [
    {"backbone": "dinov2"},
    {"weights": "sha256:02"},
    {"layers": LAYERS[:1]},
    {"layers": LAYERS[::-1]},
    {"layers": (LAYERS[0], LayerSpec("up1.0", 5, (4, 6)))},
    {"layers": (LAYERS[0], LayerSpec("up1.0", 4, (6, 4)))},
    {"timesteps": (460, -1)},
    {"input_size": (32, 48)},
    {"fit": "letterbox"},
    {"dtype": "fp32"},
    {"options": {"steps": 50, "prompt": " "}},
    {"options": {"steps": "50", "prompt": ""}},
    {"options": {"steps": 50, "prompt": None}},
    {"options": {"steps": 50}},
    {"options": {"steps": 50, "prompt": "", "seed": 0}},
    {"lineage": ("0123456789ab",)},
    {"revision": 2},
]


def test_the_digest_does_not_move() -> None:
    """A digest names caches on disks everywhere: this one changes only together with the format of a spec."""
    assert SPEC.digest() == "9321f3cf329d"


def test_every_field_is_varied_here() -> None:
    assert {name for change in CHANGES for name in change} == {field.name for field in dataclasses.fields(FeatureSpec)}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_field_changes_the_digest(change: dict[str, Any]) -> None:
    assert dataclasses.replace(SPEC, **change).digest() != SPEC.digest()


def test_the_order_of_options_does_not_change_the_digest() -> None:
    assert dataclasses.replace(SPEC, options={"prompt": "", "steps": 50}).digest() == SPEC.digest()


@pytest.mark.parametrize("change", [{}, *CHANGES], ids=str)
def test_json_round_trip(change: dict[str, Any]) -> None:
    spec = dataclasses.replace(SPEC, **change)
    assert FeatureSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("field", ["backbone", "layers", "timesteps", "dtype"])
def test_a_spec_that_lacks_a_field_is_refused(field: str) -> None:
    data = SPEC.to_json()
    del data[field]
    with pytest.raises(StoreError, match=f"this is no feature spec: .*'{field}'"):
        FeatureSpec.from_json(data)


def test_a_spec_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(StoreError, match=r"this is no feature spec: .*'colour'"):
        FeatureSpec.from_json(SPEC.to_json() | {"colour": 1})


def test_the_difference_is_a_line_a_field() -> None:
    other = dataclasses.replace(
        SPEC, fit="letterbox", options={"steps": 20, "hook": "output"}, layers=(LayerSpec("up0.0", 8, (2, 2)),)
    )
    assert SPEC.difference(other) == [
        "fit: stretch, not letterbox",
        "hook: absent, not 'output'",
        "layer up0.0: 8 x 2 x 3, not 8 x 2 x 2",
        "layer up1.0: 4 x 4 x 6, not absent",
        "order of layers: up0.0, up1.0, not up0.0",
        "prompt: '', not absent",
        "steps: 50, not 20",
    ]
    assert SPEC.difference(SPEC) == []


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_where_digests_differ_the_difference_is_not_empty(change: dict[str, Any]) -> None:
    assert SPEC.difference(dataclasses.replace(SPEC, **change))


def test_require_refuses_another_spec_with_the_difference_and_the_remedy() -> None:
    SPEC.require(dataclasses.replace(SPEC), where="here", remedy="Do this")
    with pytest.raises(SpecMismatchError) as caught:
        SPEC.require(dataclasses.replace(SPEC, dtype="fp32"), where="F.zarr", remedy="Delete it")
    assert str(caught.value) == "F.zarr holds features of another spec (dtype: fp16, not fp32). Delete it"


def test_a_layer_by_its_name() -> None:
    assert SPEC.layer("up1.0") is LAYERS[1]
    with pytest.raises(StoreError, match=r"no layer 'up9\.0' in features of sd-inversion; there are: up0\.0, up1\.0"):
        SPEC.layer("up9.0")

"""The digest names exactly what the spec holds."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from matchkit.core.errors import SpecMismatchError
from matchkit.core.spec import FeatureSpec, LayerSpec

Values = dict[str, Any]
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
pixels = st.integers(1, 64)
layers = st.lists(
    st.tuples(names, st.integers(1, 32), st.tuples(pixels, pixels)), min_size=1, max_size=3, unique_by=lambda x: x[0]
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-99, 99), st.floats(allow_nan=False), st.text(max_size=5))
fields: dict[str, st.SearchStrategy[Any]] = {
    "backbone": names,
    "weights": names,
    "layers": layers,
    "timesteps": st.lists(st.integers(-1, 999), min_size=1, max_size=4).map(tuple),
    "input_size": st.tuples(pixels, pixels),
    "fit": st.sampled_from(["stretch", "letterbox"]),
    "dtype": st.sampled_from(["fp16", "fp32"]),
    "options": st.dictionaries(st.sampled_from(["hook", "prompt", "seed", "steps"]), scalars),
    "revision": st.integers(1, 5),
}
anything = st.fixed_dictionaries(fields)


def made(values: Values) -> FeatureSpec:
    """The spec of plain values; a strategy must not make it itself, since beartype looks into it at random."""
    return FeatureSpec(**values | {"layers": tuple(LayerSpec(*layer) for layer in values["layers"])})


@given(values=anything)
def test_json_gives_the_same_spec_and_digest(values: Values) -> None:
    spec = made(values)
    again = FeatureSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.digest() == spec.digest()
    assert len(spec.digest()) == 12
    assert spec.difference(again) == []


@given(values=anything, data=st.data())
def test_the_order_of_options_does_not_count(values: Values, data: st.DataObject) -> None:
    shuffled = dict(data.draw(st.permutations(list(values["options"].items()))))
    assert made(values | {"options": shuffled}).digest() == made(values).digest()


@pytest.mark.parametrize("field", list(fields))
@given(values=anything, data=st.data())
def test_another_value_of_any_field_is_another_digest_and_is_told(
    field: str, values: Values, data: st.DataObject
) -> None:
    spec, other = made(values), made(values | {field: data.draw(fields[field])})
    assume(json.dumps(other.to_json(), sort_keys=True) != json.dumps(spec.to_json(), sort_keys=True))
    assert other.digest() != spec.digest()
    assert spec.difference(other)
    with pytest.raises(SpecMismatchError) as caught:
        spec.require(other, where="here", remedy="Do this")
    assert spec.difference(other)[0] in str(caught.value)

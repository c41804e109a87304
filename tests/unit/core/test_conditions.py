"""What conditions are made of, and what a store of them says of it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matchkit.core.conditions import ConditionSpec, condition_features, condition_spec_of
from matchkit.core.errors import ConfigError, StoreError
from matchkit.core.geometry import Fit
from matchkit.core.spec import FeatureSpec, LayerSpec

EDGE = ConditionSpec("edge", ("edge", "distance"), (False, True), (0.0, 1.0))
MASK = ConditionSpec("mask", ("labels",), (False,), (2.0,), ("sky, or none", 'a "wall"', "tür"))
CHANNELS = st.lists(
    st.tuples(st.text(max_size=5), st.booleans(), st.floats(allow_nan=False)), min_size=1, max_size=4
).map(lambda rows: tuple(zip(*rows, strict=True)))


def of_classes(count: int) -> ConditionSpec:
    return replace(MASK, classes=tuple(str(n) for n in range(count)))


def test_a_mask_is_as_wide_as_it_has_classes() -> None:
    assert (EDGE.width, MASK.width) == (2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ("edge",)}, "must be of one length"),
        ({"smooth": (True,)}, "must be of one length"),
        ({"outside": (0.0, 0.0, 0.0)}, "must be of one length"),
        ({"channels": (), "smooth": (), "outside": ()}, "must be of one length"),
        ({"classes": ("sky",)}, "a mask has the one channel 'labels'"),
        ({"kind": "mask"}, "a mask has the one channel 'labels'"),
        ({"kind": "mask", "classes": ("sky",)}, "a mask has the one channel 'labels'"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(EDGE, **changes)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_the_features_of_a_condition(fit: Fit) -> None:
    features = condition_features(EDGE, side=48, fit=fit, dtype="fp16")
    assert features.layers == (LayerSpec("condition", 2, (48, 48)),)
    assert (features.backbone, features.weights, features.timesteps) == ("condition", "none", (0,))
    assert (features.input_size, features.fit, features.dtype) == ((48, 48), fit, "fp16")
    assert condition_features(MASK, side=48, fit=fit, dtype="fp16").layers[0].channels == 1


@pytest.mark.parametrize("spec", [EDGE, MASK])
def test_a_store_says_what_its_conditions_are_made_of(spec: ConditionSpec) -> None:
    features = condition_features(spec, side=64, fit="stretch", dtype="fp32")
    assert condition_spec_of(FeatureSpec.from_json(features.to_json())) == spec


@settings(max_examples=40, deadline=None)
@given(CHANNELS)
def test_any_channels_come_back_exactly(
    channels: tuple[tuple[str, ...], tuple[bool, ...], tuple[float, ...]],
) -> None:
    spec = ConditionSpec("pose", *channels)
    features = condition_features(spec, side=8, fit="stretch", dtype="fp16")
    assert condition_spec_of(FeatureSpec.from_json(features.to_json())) == spec


def test_the_digest_tells_conditions_apart() -> None:
    told = {"side": 8, "fit": "stretch", "dtype": "fp16"}
    others = [replace(EDGE, smooth=(True, True)), replace(EDGE, outside=(0.0, 0.5)), replace(EDGE, kind="pose"), MASK]
    others += [replace(EDGE, channels=("edge", "far")), replace(MASK, classes=("sky", "wall", "door"))]
    assert len({condition_features(spec, **told).digest() for spec in [EDGE, *others]}) == 7


def test_labels_that_are_not_exact_are_refused() -> None:
    """In half precision 2,048 is the last whole number before some are left out."""
    assert condition_features(of_classes(2049), side=8, fit="stretch", dtype="fp16").dtype == "fp16"
    with pytest.raises(ConfigError, match=r"labels of 2,050 classes are not exact in fp16.*--set dtype=fp32"):
        condition_features(of_classes(2050), side=8, fit="stretch", dtype="fp16")
    assert condition_features(of_classes(2050), side=8, fit="stretch", dtype="fp32").dtype == "fp32"


def test_other_features_are_no_conditions() -> None:
    features = condition_features(EDGE, side=8, fit="stretch", dtype="fp16")
    with pytest.raises(StoreError, match="features of 'dinov2' are no conditions"):
        condition_spec_of(replace(features, backbone="dinov2"))
    with pytest.raises(StoreError, match="are no conditions"):
        condition_spec_of(replace(features, options={**features.options, "kind": "depth"}))
    for broken in ("[", "[true]", "3"):
        with pytest.raises(StoreError, match="the spec of these conditions cannot be understood"):
            condition_spec_of(replace(features, options={**features.options, "smooth": broken}))
    with pytest.raises(StoreError, match="cannot be understood: 'outside'"):
        condition_spec_of(replace(features, options={"kind": "edge", "channels": "[]", "smooth": "[]"}))

"""Errors: each is a `MatchkitError` and also a builtin."""

import pytest

from matchkit.core import errors
from matchkit.core.errors import MatchkitError, nearest_name

BUILTINS = {
    **{
        "ConfigError": ValueError,
        "DatasetError": ValueError,
        "StoreError": ValueError,
        "SpecMismatchError": ValueError,
    },
    **{"WeightsError": OSError, "DeviceError": RuntimeError, "UnknownNameError": LookupError},
}


def test_every_error_is_listed_here() -> None:
    children = {name for name, value in vars(errors).items() if isinstance(value, type)} - {"MatchkitError"}
    assert {name for name in children if issubclass(getattr(errors, name), Exception)} == set(BUILTINS)


@pytest.mark.parametrize("name", BUILTINS)
def test_every_error_is_also_a_builtin(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, MatchkitError)
    with pytest.raises(BUILTINS[name], match="what is wrong"):
        raise kind("what is wrong")


def test_the_nearest_name() -> None:
    assert nearest_name("dinov3", ["pixels", "dinov2"]) == " Did you mean 'dinov2'?"
    assert nearest_name("xyz", ["pixels", "dinov2"]) == ""
    assert nearest_name("x", []) == ""

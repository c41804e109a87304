"""What a spec records of a backbone's parameters."""

from dataclasses import fields
from typing import Any

from matchkit.core.spec import Scalar


def departures(params: Any, *names: str) -> dict[str, Scalar]:  # noqa: ANN401 - any dataclass of parameters
    """Those of the named parameters that are not at their default.

    A spec holds only these, so that a parameter that is added leaves the digests of older stores alone.
    """
    defaults = {field.name: field.default for field in fields(params)}
    return {name: getattr(params, name) for name in names if getattr(params, name) != defaults[name]}

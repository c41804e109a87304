"""Parameters: a frozen dataclass holds the defaults, `params.yaml` overrides them, the command line overrides both."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from matchkit.core.errors import ConfigError, nearest_name

T = TypeVar("T")
SECTIONS = (
    "make_toy",
    "make_toy_views",
    "generate",
    "extract",
    "conditions",
    "pairs",
    "fit_head",
    "translate",
    "match",
    "evaluate",
    "evaluate_exemplars",
    "report",
)
"""The sections of `params.yaml`, one a stage or verb."""


def read_params(path: Path) -> dict[str, Any]:
    """Reads a `params.yaml`; a file that does not exist holds nothing.

    Raises:
        ConfigError: the file is not YAML or not a mapping.
    """
    if not path.exists():
        return {}
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, not {type(data).__name__}")
    check_names(data, SECTIONS, where=str(path))
    return data


def section(data: Mapping[str, Any], *keys: str, where: str) -> dict[str, Any]:
    """The mapping under `keys`, or an empty one where it is absent.

    Raises:
        ConfigError: something else than a mapping stands there.
    """
    node: Any = data
    for depth, key in enumerate(keys):
        node = node.get(key)
        if node is None:
            return {}
        if not isinstance(node, dict):
            raise ConfigError(f"{where}: '{'.'.join(keys[: depth + 1])}' must be a mapping, not {node!r}")
    return dict(node)


def parse_overrides(settings: Iterable[str]) -> dict[str, Any]:
    """Turns `key=value` texts into parameters; the value is read as YAML.

    Example:
        >>> parse_overrides(["input_size=512", "keys=[49, 0]", "prompt=a dog"])
        {'input_size': 512, 'keys': [49, 0], 'prompt': 'a dog'}
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set takes key=value, not '{setting}'")
        try:
            values[key.strip()] = yaml.safe_load(text) if text else ""
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {key}: '{text}' is not valid YAML") from error
    return values


def divide(values: Mapping[Any, Any], kinds: Sequence[type], *, where: str) -> list[dict[str, Any]]:
    """Deals flat parameters out to the dataclasses that have them, one mapping a dataclass.

    Raises:
        ConfigError: a key that none of them has, with the nearest one.
    """
    fields = [_fields(kind) for kind in kinds]
    check_names(values, [name for names in fields for name in names], where=where)
    return [{key: value for key, value in values.items() if key in names} for names in fields]


def _fields(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.init]


def check_names(values: Iterable[object], known: Sequence[str], *, where: str) -> None:
    """Refuses a name that is not known.

    Raises:
        ConfigError: with the nearest known name.
    """
    for key in values:
        if key not in known:
            hint = nearest_name(str(key), known) or f" There are: {', '.join(known)}."
            raise ConfigError(f"{where}: no parameter '{key}'.{hint}")


def build(kind: type[T], values: Mapping[Any, Any], *, where: str) -> T:
    """Makes the frozen dataclass `kind` from plain values, checking names and types.

    Raises:
        ConfigError: a key that `kind` does not have (with the nearest one), or a value that does not fit.
    """
    check_names(values, _fields(kind), where=where)
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {place}: {first['msg']} (got {first['input']!r})") from error

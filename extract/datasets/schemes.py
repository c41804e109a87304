"""Keypoint schemes as tables: which keypoints of a category mirror each other, and which only geometry tells apart.

category:
  flips: [[left, right], ...]
  groups: [[keypoint, keypoint, ...], ...]
"""

from functools import cache
from importlib.resources import files
from types import MappingProxyType

import yaml

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.keypoints import KeypointScheme

KEYS = ("flips", "groups")


@cache
def schemes(dataset: str) -> MappingProxyType[str, KeypointScheme]:
    """The schemes of a dataset by category, from the table beside it."""
    name = f"{dataset}_keypoints.yaml"
    held = yaml.safe_load((files(__package__) / name).read_text(encoding="utf-8"))
    return MappingProxyType({category: to_scheme(table, where=name) for category, table in held.items()})


def to_scheme(table: object, *, where: str) -> KeypointScheme:
    """A scheme from the table of one category; `where` it stands is for the error.

    Raises:
        DatasetError: it is no such table.
    """
    if not isinstance(table, dict) or not table.keys() <= set(KEYS):
        raise DatasetError(f"{where} must hold {' and '.join(KEYS)}, not {table!r}")
    flips, groups = (_sets(table.get(key, []), where=f"{where}: {key}") for key in KEYS)
    if any(len(pair) != 2 for pair in flips):
        raise DatasetError(f"{where}: flips must be pairs of keypoints, not {table['flips']!r}")
    try:
        return KeypointScheme(tuple((one, other) for one, other in flips), groups)
    except ConfigError as error:
        raise DatasetError(f"{where}: {error}") from error


def _sets(held: object, *, where: str) -> tuple[tuple[str, ...], ...]:
    if not isinstance(held, list) or not all(map(_are_names, held)):
        raise DatasetError(f"{where} must be a list of lists of keypoints, not {held!r}")
    return tuple(tuple(map(str, members)) for members in held)


def _are_names(members: object) -> bool:
    return isinstance(members, list) and all(type(name) in (int, str) for name in members)

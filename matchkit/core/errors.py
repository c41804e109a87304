"""The errors that a caller may handle.

Every one is a `MatchkitError` and also the builtin that describes it best, so that code which knows nothing of
matchkit can still catch it. A message says what is wrong, where, and what to do next.
"""

import difflib
from collections.abc import Iterable


class MatchkitError(Exception):
    """Anything that matchkit refuses to do; the command line prints it in one line and exits with 1."""


class ConfigError(MatchkitError, ValueError):
    """A parameter that does not exist, has the wrong type or an impossible value."""


class DatasetError(MatchkitError, ValueError):
    """A dataset whose files are missing, broken or disagree."""


class StoreError(MatchkitError, ValueError):
    """A feature store that cannot be read or written as asked."""


class SpecMismatchError(StoreError):
    """A feature store, or weights, made under another `FeatureSpec` than the one asked for."""


class WeightsError(MatchkitError, OSError):
    """Model weights that are absent, of another shape, or in a format that could run code."""


class DeviceError(MatchkitError, RuntimeError):
    """A device that was asked for by name and is not there."""


class UnknownNameError(MatchkitError, LookupError):
    """A backbone, dataset, head or matcher that no table knows."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """A hint such as ` Did you mean 'dinov2'?`, or "" when nothing known is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""

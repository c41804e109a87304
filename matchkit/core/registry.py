"""Tables from names to classes, as strings: listing one imports nothing; third parties add by entry points."""

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from matchkit.core.errors import UnknownNameError, nearest_name
from matchkit.core.params import build


class Registry:
    """The table of one kind of thing: `{"name": "matchkit.room.module:Class"}` plus the entry points of a group."""

    def __init__(self, kind: str, table: Mapping[str, str]) -> None:
        self.kind = kind
        self._table = dict(table)

    def table(self) -> dict[str, str]:
        """Every name with the place of its class, those of this project first; nothing is imported."""
        foreign = {point.name: point.value for point in entry_points(group=f"matchkit.{self.kind}s")}
        return self._table | {name: value for name, value in foreign.items() if name not in self._table}

    def load(self, name: str) -> Any:  # noqa: ANN401 - the caller knows which protocol the class fulfils
        """Imports the class called `name`.

        Raises:
            UnknownNameError: no table has that name; the message gives the nearest one.
        """
        table = self.table()
        if name not in table:
            hint = nearest_name(name, table) or f" There are: {', '.join(table)}."
            raise UnknownNameError(f"no {self.kind} '{name}'.{hint} Run: matchkit list {self.kind}s")
        module, _, attribute = table[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def build(self, name: str, params: Mapping[str, Any], *, where: str, **context: object) -> Any:  # noqa: ANN401
        """Builds what is called `name` from plain parameters; `where` names their place in an error message.

        A class of the table has a frozen dataclass `Params` and is built as `Class(params, **context)`.

        Raises:
            UnknownNameError: no table has that name.
            ConfigError: a parameter that the class does not have, or a value that does not fit.
        """
        kind = self.load(name)
        return kind(build(kind.Params, params, where=where), **context)

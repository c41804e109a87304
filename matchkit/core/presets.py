"""Parameters of a stage by name, as publications have them; what a user tells stands over them."""

from collections.abc import Iterable, Mapping
from typing import Any

from matchkit.core.errors import UnknownNameError, nearest_name


class Presets:
    """The presets of one stage.

    Args:
        stage: its section in `params.yaml`.
        key: the parameter that says what the others belong to: `backbone`, `head`, `matcher`.
        told: what each preset is, and its parameters, `key` among them.
    """

    def __init__(self, stage: str, key: str, told: Mapping[str, tuple[str, Mapping[str, Any]]]) -> None:
        self.stage = stage
        self.key = key
        self._told = told

    def table(self) -> dict[str, str]:
        """Every name with its backbone, head or matcher, and what it is."""
        return {name: f"{params[self.key]}: {title}" for name, (title, params) in self._told.items()}

    def params(self, name: str) -> dict[str, Any]:
        """The parameters of a preset, the one called `key` among them.

        Raises:
            UnknownNameError: no preset has that name; the message gives the nearest one.
        """
        if name not in self._told:
            hint = nearest_name(name, self._told) or f" There are: {', '.join(self._told)}."
            raise UnknownNameError(f"no preset '{name}'.{hint} Run: matchkit list presets")
        return dict(self._told[name][1])


class PresetsByStage:
    """The presets of all stages; two stages may have presets of the same name."""

    def __init__(self, stages: Iterable[Presets]) -> None:
        self._stages = {presets.stage: presets for presets in stages}

    def table(self) -> dict[str, str]:
        """Every preset, `<stage> <name>`, with what it is."""
        return {
            f"{stage} {name}": title
            for stage, presets in self._stages.items()
            for name, title in presets.table().items()
        }

    def of(self, stage: str) -> Presets:
        """The presets of a stage; of one that knows no presets, none."""
        return self._stages.get(stage, Presets(stage, "", {}))

    def params(self, stage: str, name: str) -> dict[str, Any]:
        """The parameters of a preset of a stage.

        Raises:
            UnknownNameError: the preset is another stage's, or nobody's.
        """
        others = [other for other, presets in self._stages.items() if name in presets.table()]
        if others and stage not in others:
            there = ", ".join(self.of(stage).table())
            raise UnknownNameError(
                f"preset '{name}' is one of {' and '.join(others)}, not of {stage}, which has: {there}. "
                "Run: matchkit list presets"
            )
        return self.of(stage).params(name)

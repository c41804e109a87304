"""What made a feature map: everything that changes the numbers, and nothing else.

The digest of a `FeatureSpec` names a cache. Two runs with equal digests give equal features; a store opened under
another spec is refused, and the message lists the fields that differ.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from matchkit.core.errors import SpecMismatchError, StoreError
from matchkit.core.geometry import Fit

StoredType = Literal["fp16", "fp32", "bf16", "int8", "int4"]
"""The types at rest that an extraction may choose; `matchkit.cache.codecs.codec` knows what they are."""
Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer a backbone yields: its name, its channels and its grid (height, width) in cells."""

    name: str
    channels: int
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """Everything that changes a backbone's features.

    Attributes:
        backbone: name in the table of backbones.
        weights: checksum of the weights, e.g. `sha256:0123456789ab`, or how they were drawn at random.
        layers: what is kept, in the backbone's own order.
        timesteps: diffusion steps 0..999 in the order of the stored axis, -1 for the clean latent; (0,) for a backbone
            without timesteps.
        input_size: (width, height) of the network's input in pixels.
        fit: how an image is put into the input.
        dtype: the number type or codec of the maps at rest.
        options: the backbone's own parameters that change the numbers (hook point, prompt, posterior, seed, ...).
        lineage: digests of the specs this one was derived from, the extraction's first and the direct parent's last.
        revision: raised by hand when the code starts to give other numbers for the same spec.
    """

    backbone: str
    weights: str
    layers: tuple[LayerSpec, ...]
    timesteps: tuple[int, ...]
    input_size: tuple[int, int]
    fit: Fit
    dtype: str
    options: Mapping[str, Scalar] = field(default_factory=dict)
    lineage: tuple[str, ...] = ()
    revision: int = 1

    def layer(self, name: str) -> LayerSpec:
        """The layer called `name`.

        Raises:
            StoreError: no layer of this spec has that name.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = ", ".join(layer.name for layer in self.layers)
        raise StoreError(f"no layer '{name}' in features of {self.backbone}; there are: {known}")

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON data; `from_json` gives an equal spec back."""
        data = dataclasses.asdict(self)
        data["options"] = dict(sorted(self.options.items()))
        return json.loads(json.dumps(data))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "FeatureSpec":
        """Reads what `to_json` wrote.

        Raises:
            StoreError: a field is missing or unknown.
        """
        try:
            values = dict(data)
            values["layers"] = tuple(LayerSpec(x["name"], x["channels"], tuple(x["grid"])) for x in values["layers"])
            values["timesteps"] = tuple(values["timesteps"])
            values["input_size"] = tuple(values["input_size"])
            values["lineage"] = tuple(values["lineage"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise StoreError(f"this is no feature spec: {error}") from error

    def digest(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def difference(self, other: "FeatureSpec") -> list[str]:
        """A line for each field in which `other` is not this spec, e.g. `fit: stretch, not letterbox`."""
        ours, theirs = _flat(self.to_json()), _flat(other.to_json())
        keys = sorted(ours.keys() | theirs.keys())
        return [
            f"{key}: {ours.get(key, 'absent')}, not {theirs.get(key, 'absent')}"
            for key in keys
            if ours.get(key) != theirs.get(key)
        ]

    def derive(self, **changes: Any) -> "FeatureSpec":  # noqa: ANN401 - the fields of this class
        """A spec with some fields changed and this one as its direct parent."""
        return dataclasses.replace(self, lineage=(*self.lineage, self.digest()), **changes)

    def serves(self, wanted: "FeatureSpec") -> bool:
        """Whether these features are `wanted` or were derived from it."""
        return wanted.digest() in (self.digest(), *self.lineage)

    def require(self, other: "FeatureSpec", *, where: str, remedy: str) -> None:
        """Refuses `other` unless it is this spec.

        Raises:
            SpecMismatchError: with every field that differs, the place and the next command.
        """
        if self.digest() != other.digest():
            lines = "; ".join(self.difference(other))
            raise SpecMismatchError(f"{where} holds features of another spec ({lines}). {remedy}")


def _flat(data: Mapping[str, Any]) -> dict[str, str]:
    """One level deep: options and layers get a key each, so that a difference names exactly what differs."""
    flat: dict[str, str] = {}
    for key, value in data.items():
        if key == "options":
            flat |= {name: repr(option) for name, option in value.items()}
        elif key == "layers":
            flat |= {f"layer {x['name']}": f"{x['channels']} x {x['grid'][0]} x {x['grid'][1]}" for x in value}
            flat["order of layers"] = ", ".join(x["name"] for x in value)
        else:
            flat[key] = str(value)
    return flat

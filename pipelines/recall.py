"""A backbone built again from what a fitted head remembers of it: the spec of its features, and their origin."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from matchkit.core.errors import MatchkitError, SpecMismatchError, WeightsError
from matchkit.core.interfaces import Backbone
from matchkit.core.params import divide, read_params, section
from matchkit.core.spec import FeatureSpec
from matchkit.extract.backbones import BACKBONES
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.prepare import ExtractParams
from matchkit.pipelines.prompted import build_backbone
from matchkit.pipelines.settings import PARAMS_FILE, told_for

PLACES = ("weights", "unet", "dino_weights")
"""Parameters that say where weights lie, of which a spec knows the checksum alone."""
BLOCK = "block"
"""What the names of a vision transformer's layers begin with; a number follows."""
DRAWN = re.compile(r"drawn at random from seed (\d+)")
DEVIATION = "latent.std"


def recall(kept: HeadWeights, overrides: Mapping[str, Any], *, where: str, device: torch.device) -> Backbone:
    """The backbone whose features a head was fitted on.

    The entry of `params.yaml` (or the preset) that made them is tried, then what the spec itself tells, with the
    weights of the entry; where `params.yaml` has no such entry, the embedded weights first.

    Args:
        kept: the head.
        overrides: parameters of the backbone that are told, over all of these.
        where: the head's file.
        device: on which it computes.

    Raises:
        SpecMismatchError: none gives the features that the head was fitted on: every field that differs, and what to
            do.
        WeightsError: the weights are not there.
    """
    name, entry = kept.spec.backbone, f"extract.{kept.fit.get('dataset', '?')}.{kept.fit.get('features', '?')}"
    refused: list[MatchkitError] = []
    for values in _candidates(kept):
        try:
            made = build_backbone(name, {**values, **overrides}, where=entry, device=device, prompt=None)
        except WeightsError as error:
            refused.append(WeightsError(f"{where}: {error} (beside photographs: --set weights=DIR)"))
        except MatchkitError as error:
            refused.append(error)
        else:
            if _gives(made.spec, kept.spec):
                return made
            refused.append(_mismatch(kept.spec, made.spec, where=where, entry=entry))
    raise refused[-1]


def _gives(made: FeatureSpec, wanted: FeatureSpec) -> bool:
    """Whether features are the wanted ones, or these were derived from them: another codec, fewer layers or steps."""
    layers = {layer.name: layer for layer in made.layers}
    same = all(layers.get(layer.name) == layer for layer in wanted.layers)
    return wanted.serves(made) and same and {*wanted.timesteps} <= {*made.timesteps}


def _mismatch(wanted: FeatureSpec, made: FeatureSpec, *, where: str, entry: str) -> SpecMismatchError:
    lines = "; ".join(made.difference(wanted))
    return SpecMismatchError(
        f"{where} was fitted on features of spec {wanted.digest()}, and {entry} of params.yaml gives others now "
        f"({lines}). Give the backbone what the head was fitted on, --set weights=FOLDER or another parameter, or fit "
        "the head again: matchkit extract, then matchkit fit-head"
    )


def _candidates(kept: HeadWeights) -> Iterator[dict[str, Any]]:
    """Parameters by which the backbone may be had, the likeliest first."""
    dataset, features = (str(kept.fit.get(key, "")) for key in ("dataset", "features"))
    if not section(read_params(PARAMS_FILE), "extract", dataset, features, where=str(PARAMS_FILE)):
        yield recalled(kept.spec)  # before a preset of the entry's name, which would be sought on the hub
    told = told_for("extract", dataset, features, ()).values
    kind = BACKBONES.load(kept.spec.backbone).Params
    # another backbone stands there now, perhaps: its parameters would not be understood
    if told and str(told.get("backbone") or features) == kept.spec.backbone:
        _, values = divide(told, (ExtractParams, kind), where="params.yaml")
        yield values
    yield recalled(kept.spec) | {key: told[key] for key in PLACES if key in told}


def recalled(spec: FeatureSpec) -> dict[str, Any]:
    """The parameters of a backbone that its spec tells; what a spec leaves out was at its default.

    Where weights lie is not told.
    """
    side, names = spec.input_size[0], [layer.name for layer in spec.layers]
    values: dict[str, Any] = {"cell": side // spec.layers[0].grid[1], **spec.options}
    values |= {"fit": spec.fit, "input_size": side, "canvas": side}
    if not spec.lineage:  # of derived features it is the codec that they were converted to
        values["dtype"] = spec.dtype
    values |= {"timestep": spec.timesteps[0], "timesteps": spec.timesteps, "std": DEVIATION in names}
    values |= {"layers": _layers(names), "keys": _keys(spec)}
    if drawn := DRAWN.search(spec.weights):
        values |= {"init": "random", "seed": int(drawn[1])}
    known = {field.name for field in dataclasses.fields(BACKBONES.load(spec.backbone).Params)}
    if "dino_weights" in known and "dino" in names:
        values["dino_weights"] = "tiny"
    return {key: value for key, value in values.items() if key in known and value is not None}


def _layers(names: list[str]) -> tuple[str, ...] | tuple[int, ...]:
    """Layers as they are asked for: blocks of a vision transformer by their numbers."""
    blocks = tuple(int(name.removeprefix(BLOCK)) for name in names if name.removeprefix(BLOCK).isdecimal())
    return blocks or tuple(names)


def _keys(spec: FeatureSpec) -> tuple[int, ...] | None:
    """The keys of an inversion, from its timesteps; None where it was none."""
    from matchkit.extract.backbones.diffusion import inversion_timesteps

    steps = spec.options.get("steps")
    if not isinstance(steps, int):
        return None
    key = {timestep: key for key, timestep in enumerate(inversion_timesteps(range(steps), steps=steps))}
    return tuple(key[timestep] for timestep in spec.timesteps if timestep in key)

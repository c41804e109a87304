"""A store's metadata: laid out, opened, extended, noted upon, and each time whole or not at all."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import google_crc32c
import numpy as np
import torch

from matchkit.cache.codecs.codec import Codec, codec
from matchkit.cache.journal import FOLDER
from matchkit.cache.layout import ATTRIBUTE, ArrayLayout, StoreLayout, array_metadata, json_bytes
from matchkit.cache.ledger import ledger_metadata
from matchkit.cache.places.place import Buffer, Place
from matchkit.core.errors import StoreError

GROUP = "zarr.json"
STATICS = (".basis", ".mean")
"""What follows a layer's name in the arrays that a codec keeps once for all images."""


def read_layout(place: Place) -> StoreLayout:
    """What the group's attribute says.

    Raises:
        StoreError: nothing there, not a store of ours, or one of another format.
    """
    found = place.read_all([GROUP])[0]
    if not found:
        raise StoreError(f"no feature store at {place.url}. Run: matchkit extract")
    group = _json(found, f"{place.url}/{GROUP}")
    attributes = group.get("attributes")
    return StoreLayout.parse(attributes.get(ATTRIBUTE) if isinstance(attributes, dict) else None, where=place.url)


def exists(place: Place) -> bool:
    """Whether there is a group; not yet whether it is a store."""
    return GROUP in place.sizes("")


def require_free(place: Place) -> None:
    """Refuses a place that holds something else than an unfinished store.

    Raises:
        StoreError: with what to do.
    """
    ledger = place.sizes("ledger")
    if any(name.startswith(("journal.", "c.")) for name in ledger):
        raise StoreError(f"{place.url} lacks its zarr.json: perhaps half of it was copied. Copy it whole, or delete it")
    if not place.is_empty() and not {"claims", "zarr.json"} & ledger.keys():
        raise StoreError(f"{place.url} holds something that is no feature store. Take another --out, or empty it first")


def lay_out(place: Place, layout: StoreLayout, statics: Mapping[str, torch.Tensor]) -> None:
    """Writes the metadata of an empty store: the ledger's first, which marks an unfinished one, the group's last."""
    encoding = codec(layout.spec.dtype, statics)
    arrays = sum(len(layout.arrays(layer, encoding)) for layer in layout.spec.layers)
    chunks = arrays * len(layout.spec.timesteps)
    place.put({f"{FOLDER}/zarr.json": [ledger_metadata(rows=len(layout.ids), chunks=chunks)]})
    place.put(_array_files(layout, statics))
    place.put({GROUP: [layout.group_metadata()]})


def _array_files(layout: StoreLayout, statics: Mapping[str, torch.Tensor]) -> dict[str, Sequence[Buffer]]:
    files: dict[str, Sequence[Buffer]] = {}
    for name, values in statics.items():
        array = np.ascontiguousarray(values.numpy())
        known = {"crc32c": int(google_crc32c.value(array))}
        metadata = {**array_metadata(array.shape, array.shape, array.dtype), "attributes": known}
        files[f"{name}/zarr.json"] = [json_bytes(metadata)]
        files[f"{name}/c{'.0' * array.ndim}"] = [array]
    encoding = codec(layout.spec.dtype, statics)
    for layer in layout.spec.layers:
        for stored in layout.arrays(layer, encoding):
            files[f"{stored.name}/zarr.json"] = [json_bytes(stored.metadata(len(layout.ids)))]
    return files


def extend(place: Place, ids: Sequence[str]) -> StoreLayout:
    """Adds rows for those of `ids` that have none; the layout must be claimed.

    Raises:
        StoreError: there are new ids, and the arrays are not laid out as here.
    """
    layout = read_layout(place)
    known = set(layout.ids)
    new = [image_id for image_id in dict.fromkeys(ids) if image_id not in known]
    if new:
        encoding = codec(layout.spec.dtype, {})
        arrays = [array for layer in layout.spec.layers for array in layout.arrays(layer, encoding)]
        if foreign_arrays(place, arrays):
            raise StoreError(f"{place.url} was laid out by another program and can only be read")
        layout = replace(layout, ids=(*layout.ids, *new))
        place.put(_array_files(layout, {}))
        place.put({GROUP: [layout.group_metadata()]})
    return layout


def note(place: Place, name: str, data: object) -> None:
    """Keeps something that is known about a store in its attributes; the layout must be claimed."""
    layout = read_layout(place)
    place.put({GROUP: [replace(layout, notes={**layout.notes, name: data}).group_metadata()]})


def read_codec(place: Place, layout: StoreLayout) -> Codec:
    """The codec of a store, with what it keeps once for all images."""
    names = [f"{layer.name}{suffix}" for layer in layout.spec.layers for suffix in STATICS]
    described = place.read_all([f"{name}/zarr.json" for name in names]) if layout.spec.dtype.startswith("pca") else []
    statics = {}
    for name, found in zip(names, described, strict=False):
        if found:
            statics[name] = _read_static(place, name, _json(found, f"{place.url}/{name}/zarr.json"))
    return codec(layout.spec.dtype, statics)


def _read_static(place: Place, name: str, described: Mapping[str, Any]) -> torch.Tensor:
    try:
        data = place.read(f"{name}/c{'.0' * len(described['shape'])}")
        if google_crc32c.value(data) != described["attributes"]["crc32c"]:
            raise ValueError("its checksum is another")
        return torch.from_numpy(np.frombuffer(data, "<f4").reshape(described["shape"]).copy())
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{place.url}/{name} is damaged or gone ({error}), and no image can be decoded without it. "
            "Restore it from a copy, or derive the store again"
        ) from error


def foreign_arrays(place: Place, arrays: Sequence[ArrayLayout]) -> frozenset[str]:
    """The arrays that are not laid out as here: another program wrote them.

    Raises:
        StoreError: an array is not there, or of another shape than the spec says.
    """
    foreign, remedy = set(), f"Run: matchkit cache verify --repair {place.url}"
    for array, found in zip(arrays, place.read_all([f"{array.name}/zarr.json" for array in arrays]), strict=True):
        if not found:
            raise StoreError(f"{place.url} lacks its array {array.name}: perhaps half of it was copied. {remedy}")
        described = _json(found, f"{place.url}/{array.name}/zarr.json", remedy=remedy)
        shape, dtype = described.get("shape"), described.get("data_type")
        if not isinstance(shape, list) or shape[1:] != list(array.shape) or dtype != array.dtype.name:
            raise StoreError(
                f"{place.url}: array {array.name} is {dtype} {shape}, not "
                f"{array.dtype.name} [images, {', '.join(map(str, array.shape))}] as its spec says. {remedy}"
            )
        if not array.is_canonical(described):
            foreign.add(array.name)
    return frozenset(foreign)


def _json(text: bytes, where: str, *, remedy: str = "Restore it from a copy, or extract anew") -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise StoreError(f"{where} is no JSON: {error}. {remedy}") from error
    if not isinstance(data, dict):
        raise StoreError(f"{where} is not the metadata of a zarr group or array. {remedy}")
    return data

"""How the arrays of a store are to be read, and whether their metadata says so."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import google_crc32c
import numpy as np

from matchkit.cache import group
from matchkit.cache.care.findings import Finding, finding
from matchkit.cache.care.payload import Checker, Shard, View, shards
from matchkit.cache.care.survey import Survey
from matchkit.cache.layout import ArrayLayout, array_metadata

SAMPLE = 4
"""Shard files that are read to find out how an array lies whose metadata is not ours."""
OPTIONAL = {"attributes", "storage_transformers", "dimension_names"}


def views(survey: Survey) -> tuple[dict[str, View], list[Finding]]:
    """How each array can be read, those aside that cannot, and what is wrong with the metadata.

    Where an array's metadata is not our own, another program may have laid it out, or it is damaged: some images tell.
    """
    found: dict[str, View] = {}
    wrong: list[Finding] = []
    names = [f"{array.name}/{group.GROUP}" for array in survey.arrays]
    for array, name, text in zip(survey.arrays, names, survey.place.read_all(names), strict=True):
        described = parse(text)
        view = _view(survey, array, described)
        if view is not None:
            found[array.name] = view
        if view is None:
            wrong.append(finding("lost", name, url=survey.place.url))
        elif view != "zarr" and not _same(described, array.metadata(len(survey.layout.ids))):
            wrong.append(finding("metadata", name, url=survey.place.url))
    return found, wrong


def _view(survey: Survey, array: ArrayLayout, described: Mapping[str, Any]) -> View | None:
    ours: View = "frames" if array.compressed else "bytes"
    if isinstance(described.get("shape"), list) and array.is_canonical(described):
        return ours
    sample = list(itertools.islice(shards(survey, array), SAMPLE))
    if not sample or _can_be_read(survey, sample, ours, indices="whole"):
        return ours
    if _can_be_read(survey, sample, "zarr", indices="any"):
        return "zarr"
    return ours if _can_be_read(survey, sample, ours, indices="any") else None


def _can_be_read(survey: Survey, sample: Sequence[Shard], view: View, *, indices: Literal["whole", "any"]) -> bool:
    """Whether there is an image that a view reads as it was written: no other view does."""
    checker = Checker(survey)
    for shard in sample:
        found = checker.check(shard, view)
        damaged = {suspect.image.row for suspect in found if suspect.image is not None}
        is_whole = all(suspect.kind != "index" for suspect in found)
        if len(damaged) < len(shard.images) and (is_whole or indices == "any"):
            return True
    return False


def group_findings(survey: Survey) -> Iterator[Finding]:
    """What is wrong with the group's metadata, its attribute aside, and with what a codec keeps for all images."""
    described = parse(survey.place.read(group.GROUP))
    if (described.get("zarr_format"), described.get("node_type")) != (3, "group"):
        yield finding("metadata", group.GROUP, url=survey.place.url)
    if survey.layout.spec.dtype.startswith("pca"):
        for layer in survey.layout.spec.layers:
            for suffix in group.STATICS:
                yield from _static_findings(survey, f"{layer.name}{suffix}")


def _static_findings(survey: Survey, name: str) -> Iterator[Finding]:
    described = parse(survey.place.read_all([f"{name}/{group.GROUP}"])[0])
    shape = described.get("shape")
    data = survey.place.read_all([f"{name}/c{'.0' * len(shape)}"])[0] if isinstance(shape, list) else b""
    known = described.get("attributes")
    if not data or not isinstance(known, dict) or google_crc32c.value(data) != known.get("crc32c"):
        yield finding("lost", name, url=survey.place.url)
    elif not _same(described, array_metadata(described["shape"], described["shape"], np.dtype(np.float32))):
        yield finding("metadata", f"{name}/{group.GROUP}", url=survey.place.url)


def parse(text: bytes) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether metadata is as expected, as far as zarr needs it and but for the attributes, which may be anybody's."""
    known = {key: value for key, value in found.items() if key != "attributes"}
    needed = expected.keys() - OPTIONAL
    return (
        needed <= known.keys()
        and all(expected.get(key) == value for key, value in known.items())
        and isinstance(found.get("attributes", {}), dict)
    )

"""Damage undone where it can be; never while a writer lives."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from matchkit.cache.care.condition import condition, impossible_rows, is_line, journal_lines, read_chunk
from matchkit.cache.care.findings import Finding, Kind
from matchkit.cache.care.survey import Survey, shard_number
from matchkit.cache.care.sweep import alone, remove_temporaries, sweep
from matchkit.cache.care.views import parse
from matchkit.cache.journal import CHUNK, FOLDER
from matchkit.cache.layout import ArrayLayout, array_metadata, json_bytes
from matchkit.cache.ledger import ROWS
from matchkit.cache.places.place import changing
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError

UNKNOWN: Collection[Kind] = ("ledger", "journal")
"""Kinds of findings after which it is not known what is complete."""


def repair(where: str | Path, findings: Sequence[Finding]) -> tuple[str, ...]:
    """Undoes what `verify` has found; after that it finds nothing, but that some images are absent.

    Images that cannot be read are withdrawn, so that the next extraction makes them again. A damaged index around
    undamaged maps is written anew, and so are metadata and manifest. What belongs to no complete image is removed.

    Where the findings are about the ledger or a journal, no image is withdrawn, as it was not known what is complete.
    Verify again then, and repair what is left.

    Args:
        where: the store's path or URL.
        findings: what `verify` has said of it.

    Returns:
        The ids of the images that were withdrawn.

    Raises:
        StoreError: a writer lives, something is lost that nothing here can replace, or the place cannot be written.
    """
    lost = [str(each) for each in findings if each.kind == "lost"]
    if lost:
        raise StoreError(f"{where}: {len(lost):,} of the findings cannot be repaired here, the first: {lost[0]}")
    with alone(Survey.open(where).place) as place:
        with changing(place):
            survey = Survey(place)
            _mend_ledger(survey)
            for each in findings:
                if each.kind == "metadata" and each.where != f"{FOLDER}/zarr.json":  # the folding writes that one
                    _mend_metadata(survey, each.where)
        survey = Survey(place)
        store = FeatureStore(place, survey.layout)
        damaged = {each.image_id for each in findings if each.kind in ("chunk", "shard")}
        if any(each.kind in UNKNOWN for each in findings):
            damaged = set()
        withdrawn = tuple(image_id for image_id in survey.complete if image_id in damaged)
        for image_id in withdrawn:
            store.withdraw(image_id)
        survey.refresh()
        _mend_indices(survey, findings, withdrawn)
        sweep(survey, condition(survey, claimed=()))
        store.finalize()
    remove_temporaries(where)
    return withdrawn


def _mend_ledger(survey: Survey) -> None:
    """Leaves only what writers can have said: lines in the journals, rows in the folded ledger."""
    for name, lines in journal_lines(survey).items():
        good = [line for line in lines if is_line(survey, line)]
        if not good:
            survey.place.delete([f"{FOLDER}/{name}"])
        elif good != lines:
            survey.place.put({f"{FOLDER}/{name}": good})
    for name, size in survey.place.sizes(FOLDER).items():
        if found := CHUNK.fullmatch(name):
            chunk = read_chunk(survey, int(found[1]))
            impossible = impossible_rows(survey, int(found[1]), chunk)
            chunk[impossible] = 0
            if int(found[1]) * ROWS >= len(survey.layout.ids):
                survey.place.delete([f"{FOLDER}/{name}"])
            elif impossible.any() or size != chunk.nbytes:
                survey.place.put({f"{FOLDER}/{name}": [chunk]})


def _mend_metadata(survey: Survey, where: str) -> None:
    """Writes metadata as the spec lays it out, with the attributes that are there."""
    name = where.rpartition("/")[0]
    if not name:
        survey.place.put({where: [survey.layout.group_metadata()]})
        return
    described = parse(survey.place.read_all([where])[0])
    arrays = {array.name: array for array in survey.arrays}
    if name in arrays:
        metadata = arrays[name].metadata(len(survey.layout.ids))
    else:
        metadata = array_metadata(described["shape"], described["shape"], np.dtype(np.float32))
    if isinstance(described.get("attributes"), dict):
        metadata["attributes"] = described["attributes"]
    survey.place.put({where: [json_bytes(metadata)]})


def _mend_indices(survey: Survey, findings: Sequence[Finding], withdrawn: Sequence[str]) -> None:
    """Writes the indices anew that are damaged, or tell of images that are withdrawn."""
    rows = {image_id: row for row, image_id in enumerate(survey.layout.ids)}
    wrong = {each.where for each in findings if each.kind in ("index", "slot")}
    for array in survey.arrays:
        if not array.compressed:
            wrong |= {array.file(rows[image_id]) for image_id in withdrawn}
    arrays = {array.name: array for array in survey.arrays}
    for where in sorted(wrong):
        folder, _, name = where.rpartition("/")
        number = shard_number(arrays[folder], name)
        if number is not None and survey.place.claim("images", survey.group_of(number * arrays[folder].images)):
            _mend_index(survey, arrays[folder], number)


def _mend_index(survey: Survey, array: ArrayLayout, number: int) -> None:
    name = array.file(number * array.images)
    survey.refresh()
    present = survey.present(array, number)
    data = survey.place.read_all([name])[0]
    if data and any(present):
        payload = data[: array.payload_bytes].ljust(array.payload_bytes, b"\0")
        survey.place.put({name: [payload, array.index(present)]})

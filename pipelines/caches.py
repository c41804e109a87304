"""Looking after feature stores: what there is, what it costs, and whether it still is what was written."""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from matchkit.cache.care import verify as verification
from matchkit.cache.care.findings import Finding
from matchkit.cache.care.repair import UNKNOWN
from matchkit.cache.care.repair import repair as repair_store
from matchkit.cache.care.survey import Survey
from matchkit.cache.care.sweep import break_claims as break_all
from matchkit.cache.care.sweep import clean
from matchkit.cache.journal import FOLDER
from matchkit.cache.layout import ATTRIBUTE, image_bytes
from matchkit.cache.places.place import is_url
from matchkit.core.errors import StoreError

log = logging.getLogger(__name__)
ROUNDS = 3
"""How often a store is repaired and verified anew where its ledger was damaged."""
SHOWN = 3
"""Findings that an error names; the log has all of them."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A store in a list; where it cannot be opened, `problem` says why and the rest is empty.

    Attributes:
        store: its path or URL.
        images: complete ones.
        rows: images that it has room for.
        layers: how many.
        timesteps: how many.
        dtype: the number type or codec.
        bytes: on the disk.
        digest: of its spec.
        derived_from: the digest of the direct parent's spec; "" where it was extracted.
        problem: "" where there is none.
    """

    store: str
    images: int = 0
    rows: int = 0
    layers: int = 0
    timesteps: int = 0
    dtype: str = ""
    bytes: int = 0
    digest: str = ""
    derived_from: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Info:
    """What a store holds, and what made it.

    Attributes:
        store: its path or URL.
        digest: of its spec.
        spec: what made the features, as plain data.
        images: complete ones.
        rows: images that it has room for.
        bytes_an_image: of the maps at rest, before a lossless compression.
        files: on the disk, or objects in the bucket.
        bytes: on the disk.
        compressed: whether chunks are zstd frames.
        writers: who writes into it now; in a bucket also those that were killed.
        notes: what was measured or told about it.
    """

    store: str
    digest: str
    spec: Mapping[str, Any]
    images: int
    rows: int
    bytes_an_image: int
    files: int
    bytes: int
    compressed: bool
    writers: tuple[str, ...]
    notes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """What a layer, or what else is in a store, takes.

    Attributes:
        name: the layer's, `ledger`, or `metadata`.
        files: on the disk, or objects in the bucket.
        bytes: on the disk.
        bytes_an_image: bytes divided by the complete images.
    """

    name: str
    files: int
    bytes: int
    bytes_an_image: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a store takes, by its parts and in all."""

    store: str
    images: int
    parts: tuple[Part, ...]
    total: Part


@dataclass(frozen=True, slots=True)
class Verified:
    """A store in which nothing is wrong, or nothing any more.

    Attributes:
        store: its path or URL.
        images: complete ones, all of them as they were written.
        rows: images that it has room for.
        repaired: what was wrong.
        withdrawn: images that could not be kept and are to be extracted again.
    """

    store: str
    images: int
    rows: int
    repaired: tuple[str, ...]
    withdrawn: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed from a store."""

    store: str
    files: int
    bytes: int


def ls(root: str) -> list[Listed]:
    """All stores below a folder, or the one at a path or URL.

    Raises:
        StoreError: no such folder, or nothing at the URL.
    """
    if is_url(root):
        return [_listed(root)]
    if not Path(root).is_dir():
        raise StoreError(f"no folder {root}. Run: matchkit extract")
    return [_listed(str(path)) for path in sorted(_stores(Path(root)))]


def _stores(root: Path) -> Iterator[Path]:
    """The folders that are stores of ours, damaged ones too; what is below a zarr group is its own."""
    seen = set()
    for folder, below, files in os.walk(root, followlinks=True):
        is_group = "zarr.json" in files
        if is_group and ATTRIBUTE.encode() in Path(folder, "zarr.json").read_bytes():
            yield Path(folder)
        if is_group or os.path.realpath(folder) in seen:
            below.clear()
        seen.add(os.path.realpath(folder))


def _listed(store: str) -> Listed:
    try:
        survey = Survey.open(store)
        spec = survey.layout.spec
        return Listed(
            store,
            images=len(survey.complete),
            rows=len(survey.layout.ids),
            layers=len(spec.layers),
            timesteps=len(spec.timesteps),
            dtype=spec.dtype,
            bytes=sum(size for _, size in survey.usage().values()),
            digest=spec.digest(),
            derived_from=spec.lineage[-1] if spec.lineage else "",
        )
    except StoreError as error:
        return Listed(store, problem=str(error))


def info(store: str) -> Info:
    """What a store holds, what made it, and who is writing into it."""
    survey = Survey.open(store)
    usage, spec = survey.usage().values(), survey.layout.spec
    return Info(
        store,
        digest=spec.digest(),
        spec=spec.to_json(),
        images=len(survey.complete),
        rows=len(survey.layout.ids),
        bytes_an_image=image_bytes(spec),
        files=sum(files for files, _ in usage),
        bytes=sum(size for _, size in usage),
        compressed=survey.layout.compressed,
        writers=tuple(survey.place.holder("writer", number) for number in survey.writers()),
        notes=survey.layout.notes,
    )


def du(store: str) -> Usage:
    """What each layer takes on the disk, with what its codec keeps beside it, and what an image costs on average."""
    survey = Survey.open(store)
    images, usage = len(survey.complete), dict(survey.usage())
    named = {layer: [usage.pop(name) for name in names if name in usage] for layer, names in survey.folders.items()}
    named |= {"ledger": [usage.pop(FOLDER, (0, 0))], "metadata": list(usage.values())}
    parts = tuple(_part(name, taken, images) for name, taken in named.items())
    total = _part("in all", [(part.files, part.bytes) for part in parts], images)
    return Usage(store, images, parts, total)


def _part(name: str, taken: list[tuple[int, int]], images: int) -> Part:
    size = sum(size for _, size in taken)
    return Part(name, sum(files for files, _ in taken), size, size // images if images else 0)


def verify(store: str, *, repair: bool) -> Verified:
    """Reads a store back; `repair` undoes what is wrong, or withdraws it, so that an extraction makes it again.

    Raises:
        StoreError: something is wrong and is not repaired: the first few findings, and what to run.
    """
    repaired: list[str] = []
    withdrawn: list[str] = []
    for _ in range(ROUNDS):
        findings = _verify(store)
        if not findings:
            break
        if not repair:
            raise StoreError(_refusal(store, findings))
        withdrawn += repair_store(store, findings)
        repaired += [finding.told for finding in findings]
        if all(finding.kind not in UNKNOWN for finding in findings):
            break
    survey = Survey.open(store)
    return Verified(store, len(survey.complete), len(survey.layout.ids), tuple(repaired), tuple(withdrawn))


def _verify(store: str) -> list[Finding]:
    with tqdm(desc="verify", unit="B", unit_scale=True, disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        findings = verification.verify(store, progress=progress)
    if len(findings) > SHOWN:
        for finding in findings:
            log.warning("%s", finding)
    return findings


def _refusal(store: str, findings: list[Finding]) -> str:
    told = "; ".join(finding.told for finding in findings[:SHOWN])
    more = f"; and {len(findings) - SHOWN:,} more" if len(findings) > SHOWN else ""
    images = len({finding.image_id for finding in findings} - {None})
    remedies = {finding.kind == "lost": finding.remedy for finding in findings}
    alone = len({finding.remedy for finding in findings}) == 1
    remedy = remedies.get(True) or (remedies[False] if alone else f"Run: matchkit cache verify --repair {store}")
    number = f"{len(findings):,} finding{'s' if len(findings) > 1 else ''}"
    damaged = f", {images:,} damaged image{'s' if images > 1 else ''}" if images else ""
    return f"{store}: {number}{damaged}: {told}{more}. {remedy}"


def gc(store: str, *, break_claims: bool) -> Collected:
    """Removes what nobody needs; `break_claims` first takes from killed writers what they hold in a bucket.

    Raises:
        StoreError: a writer lives, or the store is damaged so that what is needed is not known.
    """
    if break_claims:
        for broken in break_all(store):
            log.warning("%s: took %s", store, broken)
    swept = clean(store)
    return Collected(store, swept.files, swept.bytes)

"""Which pairs of a split a protocol scores."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from matchkit.core.errors import DatasetError
from matchkit.core.records import Pair
from matchkit.evaluate.protocol import EvalProtocol

VIEWPOINT = "viewpoint_variation"
"""0, 1 or 2 of a pair of SPair-71k."""
DIGITS = 12


def chosen(pairs: Sequence[Pair], protocol: EvalProtocol) -> list[Pair]:
    """The pairs that count, in their order: those listed, of the viewpoint, and so many of each category.

    Of a category come first the pairs whose ids have the smallest SHA-256: as good as drawn, the same on every machine
    and in any order of the pairs, and the first 20 are among the first 200. No published list was made so; one that is
    at hand is read with `subset`.

    Raises:
        DatasetError: a list that is missing, malformed, of another digest, or with a pair that the split has not; no
            pair of the viewpoint.
    """
    if protocol.subset:
        pairs = _listed(pairs, Path(protocol.subset), protocol.subset_digest)
    if protocol.viewpoint is not None:
        pairs = _of_viewpoint(pairs, protocol.viewpoint)
    if not protocol.pairs_a_category:
        return list(pairs)
    of_category: defaultdict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        of_category[pair.category].append(pair.id)
    kept = {name for names in of_category.values() for name in sorted(names, key=_lot)[: protocol.pairs_a_category]}
    return [pair for pair in pairs if pair.id in kept]


def file_digest(path: Path) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a file that lists pairs.

    Raises:
        DatasetError: there is no such file.
    """
    return hashlib.sha256(_bytes(path)).hexdigest()[:DIGITS]


def _lot(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"no list of pairs at {path}. Give the path of one with: --set subset=FILE") from error


def _listed(pairs: Sequence[Pair], path: Path, digest: str) -> list[Pair]:
    if digest and file_digest(path) != digest:
        raise DatasetError(f"{path} has the digest {file_digest(path)}, and the protocol is of one with {digest}")
    by_id = {pair.id: pair for pair in pairs}
    by_images = {(pair.source, pair.target): pair for pair in pairs}
    listed: dict[str, Pair] = {}
    for number, entry in enumerate(_entries(path), 1):
        pair = by_id.get(entry) if isinstance(entry, str) else by_images.get(_ends(entry, path, number))
        if pair is None:
            raise DatasetError(f"{path}, entry {number}: the split has no pair {entry!r:.120}")
        listed[pair.id] = pair
    return [pair for pair in pairs if pair.id in listed]


def _entries(path: Path) -> list[str | Mapping[str, object]]:
    """The lines of a text, or the members of a list in JSON."""
    try:
        text = _bytes(path).decode()
        found = json.loads(text) if path.suffix == ".json" else [line.strip() for line in text.splitlines()]
    except ValueError as error:
        raise DatasetError(f"{path} is not a list of pairs: {error}") from error
    if not isinstance(found, list) or not all(isinstance(entry, (str, dict)) for entry in found):
        raise DatasetError(f"{path} must hold a list of pairs' ids, or of objects with source_path and target_path")
    entries = [entry for entry in found if entry]
    if not entries:
        raise DatasetError(f"{path} lists no pairs")
    return entries


def _ends(entry: Mapping[str, object], path: Path, number: int) -> tuple[str, str]:
    """The ids of both images, `<category>/<stem>`. Source: the annotation files of Hyperfeatures §6.3."""
    ends = [entry.get(key) for key in ("source_path", "target_path")]
    if not all(isinstance(end, str) for end in ends):
        raise DatasetError(f"{path}, entry {number}: an object needs source_path and target_path")
    source, target = (str(PurePosixPath(str(end)).with_suffix("")) for end in ends)
    return source, target


def _of_viewpoint(pairs: Sequence[Pair], viewpoint: int) -> list[Pair]:
    found = [pair for pair in pairs if pair.variations.get(VIEWPOINT) == viewpoint]
    if not found:
        raise DatasetError(f"no pair has the {VIEWPOINT} {viewpoint}, of which the protocol scores those alone")
    return found

"""The lines of a store's journals, and the names of the files in its ledger's folder."""

import json
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

FOLDER = "ledger"
JOURNAL = re.compile(r"journal\.(\d+)\.[0-9a-f]+\.jsonl")
CHUNK = re.compile(r"c\.(\d+)\.0")
FOLDED = re.compile(r"folded\.[0-9a-f]+")
"""The names of the files in the ledger's folder; the first number is the writer's, or the chunk's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of an image: how often it was written or withdrawn, and, where complete, its checksums.

    Attributes:
        row: of the image.
        version: the number of this entry among the image's entries, from 1.
        complete: whether its chunks may be read.
        image: CRC-32C of the photograph's file.
        checksums: CRC-32C of every chunk; none where withdrawn.
    """

    row: int
    version: int
    complete: bool
    image: int = 0
    checksums: tuple[int, ...] = ()


def line_of(image_id: str, entry: Entry) -> bytes:
    """The line that says so."""
    told = {"row": entry.row, "id": image_id, "version": entry.version}
    if entry.complete:
        told |= {"image": entry.image, "crc32c": list(entry.checksums)}
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def parse(line: bytes) -> Entry | None:
    """What a line says, or None where it is none."""
    try:
        told = json.loads(line)
        checksums = tuple(told.get("crc32c", ()))
        entry = Entry(told["row"], told["version"], "crc32c" in told, told.get("image", 0), checksums)
        array("I", [entry.row, entry.version, entry.image, *checksums])  # refuses what is no uint32
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    return entry


def journals(names: Mapping[str, int]) -> dict[str, int]:
    """The journals among files and their bytes."""
    return {name: size for name, size in names.items() if JOURNAL.fullmatch(name)}


def chunks(names: Mapping[str, int]) -> list[int]:
    """The numbers of the parts of the folded ledger among files."""
    return sorted(int(found[1]) for name in names if (found := CHUNK.fullmatch(name)))


def foldings(names: Mapping[str, int]) -> set[str]:
    """What tells of the last folding among files."""
    return {name for name in names if FOLDED.fullmatch(name)}

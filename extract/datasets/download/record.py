"""The note that a download leaves in a dataset's tree: of which files it was made, byte for byte."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from matchkit.core.errors import DatasetError

RECORD = "download.json"


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """One file that was unpacked.

    Attributes:
        name: what its makers call it.
        url: where it came from; "" where somebody fetched it by hand.
        size: its bytes.
        sha256: of its bytes.
        files: how many came out of it.
        unpacked: their bytes.
    """

    name: str
    url: str
    size: int
    sha256: str
    files: int
    unpacked: int


@dataclass(frozen=True, slots=True)
class Record:
    """What a dataset's tree was made of, and what its makers say about using it."""

    dataset: str
    licence: str
    page: str
    files: Sequence[FetchedFile]

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of every file."""
        return {file.name: file.sha256 for file in self.files}


def write_record(tree: Path, record: Record) -> None:
    """Writes a tree's record."""
    (tree / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def read_record(tree: Path) -> Record | None:
    """The record of a tree; None where it was not downloaded.

    Raises:
        DatasetError: the record is malformed.
    """
    path = tree / RECORD
    if not path.is_file():
        return None
    try:
        return TypeAdapter(Record).validate_json(path.read_bytes())
    except ValidationError as error:
        reason = error.errors()[0]
        raise DatasetError(
            f"{path} is not what a download writes: {'.'.join(map(str, reason['loc']))}: {reason['msg']}. Move "
            f"{tree} away and run again"
        ) from error

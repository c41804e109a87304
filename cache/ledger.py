"""What a store holds: a journal with one synced line an image, written after the image's maps are on the disk.

    {"id": "dog/a", "image": 1718964, "crc32c": {"up0.0": 2868962337, ...}}     complete
    {"id": "dog/a"}                                                             withdrawn: about to be written again

`image` is the checksum of the photograph's file: features of a photograph that has changed are known to be stale.

The last line about an image counts. A line that a kill cut short is no line.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK = 4096
"""Bytes read at a time when the journal's end is looked at."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A complete image: CRC-32C of its photograph's file, and of its maps' bytes by layer."""

    image: int
    layers: Mapping[str, int]


class Ledger:
    """The journal of a store's folder `ledger/`."""

    def __init__(self, folder: Path) -> None:
        self._journal = folder / "journal.jsonl"
        self._manifest = folder / "manifest.json"
        self._complete = self._read()

    @property
    def complete(self) -> Mapping[str, Entry]:
        """Every complete image by its id."""
        return self._complete

    def _read(self) -> dict[str, Entry]:
        complete: dict[str, Entry] = {}
        if not self._journal.exists():
            return complete
        for line in self._journal.read_bytes().split(b"\n")[:-1]:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            complete.pop(entry["id"], None)
            if "crc32c" in entry:
                complete[entry["id"]] = Entry(entry["image"], entry["crc32c"])
        return complete

    def record(self, image_id: str, entry: Entry) -> None:
        """Declares an image complete; its maps must be on the disk by now."""
        self._append({"id": image_id, "image": entry.image, "crc32c": dict(entry.layers)})
        self._complete[image_id] = entry

    def withdraw(self, image_id: str) -> None:
        """Declares an image absent."""
        self._append({"id": image_id})
        self._complete.pop(image_id, None)

    def _append(self, entry: Mapping[str, object]) -> None:
        line = json.dumps(entry, separators=(",", ":")).encode()
        with self._journal.open("ab") as file:
            # a line that was cut short is no line, and must neither swallow this one nor be completed by it
            file.truncate(_whole_lines(self._journal))
            file.write(line + b"\n")
            file.flush()
            os.fdatasync(file.fileno())

    def content(self) -> str:
        """The first 12 hexadecimal digits of a digest of every complete image's checksums."""
        content = json.dumps(sorted((name, sorted(entry.layers.items())) for name, entry in self._complete.items()))
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def write_manifest(self, *, spec_digest: str) -> Path:
        """Writes the small file that stands for the store in DVC: digests of the spec and of all that is complete."""
        manifest = {
            "spec": spec_digest,
            "content": self.content(),
            "images": len(self._complete),
        }
        temporary = self._manifest.with_suffix(".tmp")
        temporary.write_text(json.dumps(manifest, indent=2) + "\n")
        temporary.replace(self._manifest)
        return self._manifest


def _whole_lines(path: Path) -> int:
    """The length in bytes of a file up to and with its last newline; reads only the end of it."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0

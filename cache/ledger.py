"""What a store holds: a journal a writer, one synced line an image, folded from time to time into a zarr array.

    ledger/zarr.json, c.<n>.0              uint32 (image, column): version, complete, checksum of the photograph's file,
                                           then the CRC-32C of every chunk, array by array, timestep by timestep
    ledger/journal.<writer>.<time>.jsonl   what that writer has done since the last folding
    ledger/folded.<time>                   empty; another one after every folding, by which readers know of it
    ledger/manifest.json                   the small file that stands for the store in DVC

    {"row":7,"id":"dog/a","version":1,"image":1718964,"crc32c":[2868962337,...]}     complete
    {"row":7,"id":"dog/a","version":2}                               withdrawn, about to be written again

A line is written after the image's chunks are on the disk. Of all that is known about an image the highest version
counts. A line that a kill cut short is no line.
"""

import hashlib
import json
import threading
import time
from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt32

from matchkit.cache.journal import FOLDER, Entry, chunks, foldings, journals, line_of, parse
from matchkit.cache.layout import array_metadata, json_bytes
from matchkit.cache.places.place import Piece, Place, begin_writing, changing
from matchkit.core.errors import StoreError

ROWS = 4096
"""Images in a chunk of the ledger, and lines of a journal before it is folded."""
OBJECTS = 256
"""Journals before they are folded where every line is a file of its own."""
VERSION, COMPLETE, IMAGE, CHECKSUMS = 0, 1, 2, 3
"""Columns of the ledger; the checksums go on to its end."""


class Ledger:
    """The ledger of a store, as of the last `refresh`. Several threads may ask and refresh it.

    Args:
        place: where the store lies.
        chunks: of an image, over all arrays.

    Attributes:
        rows: one more than the highest row that anything is known of.
    """

    def __init__(self, place: Place, *, chunks: int) -> None:
        self._place = place
        self._columns = CHECKSUMS + chunks
        self._own: str | None = None
        self._lines = 0
        self._lock = threading.RLock()
        self._load()

    def _load(self) -> None:
        """Journals first: what is folded while they are read is then found in the array."""
        self._read: dict[str, int] = {}
        self._recent: dict[int, Entry] = {}
        self._versions, self._images, self._complete = array("I"), array("I"), bytearray()
        self.rows = 0
        found = self._place.sizes(FOLDER)
        self._folded, names = foldings(found), sorted(journals(found))
        texts = self._place.read_all([f"{FOLDER}/{name}" for name in names])
        for number in chunks(self._place.sizes(FOLDER)):
            self._load_chunk(number)
        for name, text in zip(names, texts, strict=True):
            self._take_lines(name, 0, text)

    def _load_chunk(self, number: int) -> None:
        rows = self._chunk(number)
        first, last = number * ROWS, (number + 1) * ROWS
        self._grow(last)
        self._versions[first:last] = array("I", rows[:, VERSION].tobytes())
        self._images[first:last] = array("I", rows[:, IMAGE].tobytes())
        self._complete[first:last] = rows[:, COMPLETE].astype(np.uint8).tobytes()
        known = np.flatnonzero(rows[:, VERSION])
        self.rows = max(self.rows, first + int(known[-1]) + 1 if len(known) else 0)

    def refresh(self) -> None:
        """Takes up what other writers have done since the last time."""
        with self._lock:
            found = journals(self._place.sizes(FOLDER))
            folded = any(found.get(name, -1) < end for name, end in self._read.items())
            grown = sorted(name for name, size in found.items() if size > self._read.get(name, 0))
            if folded or not self._take_grown(grown):
                self._reload()

    def _take_grown(self, names: Sequence[str]) -> bool:
        """Takes up what was added to some journals; False where there was a folding meanwhile."""
        new = [name for name in names if name not in self._read]
        texts = dict(zip(new, self._place.read_all([f"{FOLDER}/{name}" for name in new]), strict=True))
        for name in names:
            start = self._read.get(name, 0)
            try:
                text = texts[name] if name in texts else self._place.read(f"{FOLDER}/{name}", start)
            except FileNotFoundError:
                return False
            if not text:
                return False
            self._take_lines(name, start, text)
        # looked for at last: one that came and was folded since the last time, or while the folder was listed
        return foldings(self._place.sizes(FOLDER)) == self._folded

    def _reload(self) -> None:
        """Loads all anew, beside what other threads are asking for."""
        fresh = Ledger(self._place, chunks=self._columns - CHECKSUMS)
        self._versions, self._images, self._complete = fresh._versions, fresh._images, fresh._complete
        self._read, self._recent, self.rows = fresh._read, fresh._recent, fresh.rows
        self._folded = fresh._folded

    def _take_lines(self, name: str, start: int, text: bytes) -> None:
        whole = text.rfind(b"\n") + 1
        self._read[name] = start + whole
        for line in text[:whole].splitlines():
            entry = parse(line)
            if entry is not None and (not entry.complete or len(entry.checksums) == self._columns - CHECKSUMS):
                self._hold(entry)

    def _hold(self, entry: Entry) -> None:
        self._grow(entry.row + 1)
        if entry.version < self._versions[entry.row]:
            return
        self.rows = max(self.rows, entry.row + 1)
        self._versions[entry.row] = entry.version
        self._images[entry.row] = entry.image
        self._complete[entry.row] = entry.complete
        self._recent[entry.row] = entry

    def _grow(self, rows: int) -> None:
        more = rows - len(self._complete)
        if more > 0:
            self._versions.frombytes(bytes(4 * more))
            self._images.frombytes(bytes(4 * more))
            self._complete.extend(bytes(more))

    def version(self, row: int) -> int:
        """How often an image was written or withdrawn."""
        return self._versions[row] if row < len(self._versions) else 0

    def is_complete(self, row: int) -> bool:
        """Whether an image's chunks may be read."""
        return row < len(self._complete) and self._complete[row] == 1

    def image(self, row: int) -> int:
        """CRC-32C of a complete image's photograph."""
        return self._images[row]

    def checksums(self, row: int) -> tuple[int, ...]:
        """CRC-32C of every chunk of a complete image."""
        if row in self._recent:
            return self._recent[row].checksums
        number, position = divmod(row, ROWS)
        line = np.empty(self._columns, "<u4")
        self._place.fill([Piece(f"{FOLDER}/c.{number}.0", position * line.nbytes, line)])
        return tuple(line[CHECKSUMS:].tolist())

    def _chunk(self, number: int) -> UInt32[np.ndarray, "rows columns"]:
        try:
            data = self._place.read(f"{FOLDER}/c.{number}.0")
        except FileNotFoundError:
            data = b""
        rows = np.zeros((ROWS, self._columns), "<u4")
        if len(data) == rows.nbytes:
            rows[:] = np.frombuffer(data, "<u4").reshape(rows.shape)
        elif data:
            url = self._place.url
            raise StoreError(f"{url}/{FOLDER}/c.{number}.0 is damaged. Run: matchkit cache verify --repair {url}")
        return rows

    def record(self, image_id: str, entry: Entry) -> None:
        """Writes a line about an image; where it is complete its chunks must be on the disk by now."""
        data = line_of(image_id, entry)
        with self._lock:
            name = self._own or f"journal.{begin_writing(self._place)}.{time.time_ns():x}.jsonl"
            self._own = None  # a journal whose last line may be torn is not gone on with
            self._place.append(f"{FOLDER}/{name}", data)
            self._own = name if self._place.appends else None
            self._read[name] = self._read.get(name, 0) + len(data)
            self._hold(entry)
            self._lines += 1
            self._place.beat()
            if max(self._lines, len(self._recent)) >= (ROWS if self._place.appends else OBJECTS):
                self.fold(rows=self.rows)

    def leave(self) -> None:
        """Adds no more to this writer's journal, which others may fold from now on."""
        self._own = None

    def fold(self, *, rows: int) -> None:
        """Takes the journals of this writer and of dead ones into the array; `rows` is the store's number of them."""
        begin_writing(self._place)
        with self._lock, changing(self._place):
            ended = self._ended()  # before the refresh: a writer may end after its last line was read
            self.refresh()
            if self._recent:
                self._write_chunks()
            files = {f"{FOLDER}/zarr.json": [ledger_metadata(rows=rows, chunks=self._columns - CHECKSUMS)]}
            before = self._folded
            if ended:
                self._folded = {f"folded.{time.time_ns():x}"}
                files |= {f"{FOLDER}/{name}": [b""] for name in self._folded}
            self._place.put(files)
            self._place.delete(f"{FOLDER}/{name}" for name in (*ended, *(before - self._folded)))
            self._own, self._lines = None, 0
            for name in ended:
                self._read.pop(name, None)
            # what living writers wrote is in the array too, though it stays in their journals until they fold
            self._recent = {}
            self._place.beat()

    def _write_chunks(self) -> None:
        for number in sorted({row // ROWS for row in self._recent}):
            rows = self._chunk(number)
            for row, entry in self._recent.items():
                line = rows[row % ROWS]
                if row // ROWS == number and entry.version >= line[VERSION]:
                    line[:] = 0
                    line[:CHECKSUMS] = entry.version, entry.complete, entry.image
                    line[CHECKSUMS : CHECKSUMS + len(entry.checksums)] = entry.checksums
            self._place.put({f"{FOLDER}/c.{number}.0": [rows]})

    def _ended(self) -> list[str]:
        """The journals to which nobody will add: this writer's and those of writers that are gone."""
        ended = []
        for name in journals(self._place.sizes(FOLDER)):
            writer = int(name.split(".")[1])
            if writer == self._place.writer:
                ended.append(name)
            elif self._place.claim("writer", writer):
                ended.append(name)
                self._place.release("writer", writer)
        return ended

    def complete_rows(self) -> Iterator[tuple[int, bytes]]:
        """Every complete image's row and the bytes of its checksums, a chunk of the ledger in memory at a time."""
        for number in range((len(self._complete) + ROWS - 1) // ROWS):
            chunk = self._chunk(number)
            for row in range(number * ROWS, min((number + 1) * ROWS, len(self._complete))):
                if self._complete[row] == 1:
                    recent = self._recent.get(row)
                    checksums = recent.checksums if recent else chunk[row % ROWS, CHECKSUMS:]
                    yield row, np.asarray(checksums, "<u4").tobytes()

    def content(self, ids: Sequence[str]) -> str:
        """The first 12 hexadecimal digits of a digest of every complete image's checksums, whatever their order."""
        lines = sorted(
            hashlib.sha256(ids[row].encode() + b"\n" + checksums).digest()
            for row, checksums in self.complete_rows()
            if row < len(ids)  # a damaged line may tell of more
        )
        return hashlib.sha256(b"".join(lines)).hexdigest()[:12]

    def write_manifest(self, *, spec_digest: str, ids: Sequence[str]) -> None:
        """Writes the small file that stands for the store in DVC: digests of the spec and of all that is complete."""
        manifest = json.dumps(self.manifest(spec_digest=spec_digest, ids=ids), indent=2).encode() + b"\n"
        self._place.put({f"{FOLDER}/manifest.json": [manifest]})

    def manifest(self, *, spec_digest: str, ids: Sequence[str]) -> dict[str, str | int]:
        """What the manifest says."""
        return {"spec": spec_digest, "content": self.content(ids), "images": self._complete.count(1)}


def ledger_metadata(*, rows: int, chunks: int) -> bytes:
    """The `zarr.json` of the ledger of so many images with so many chunks each."""
    columns = CHECKSUMS + chunks
    return json_bytes(array_metadata((rows, columns), (ROWS, columns), np.dtype(np.uint32)))

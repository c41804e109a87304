"""A store's place in an object store, by URL: S3 and what speaks its language, Google Cloud, Azure.

Credentials and endpoint come from the environment, as obstore reads it: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP=true` for a server without TLS, `AWS_TIMEOUT=5m` where a request takes
longer than the usual 30 s; `GOOGLE_...` and `AZURE_...` likewise.

Once a process has used an object store, a child forked from it hangs when it uses one. Start children by spawn or
forkserver, or use threads.
"""

import functools
import json
import os
import re
import socket
import time
import uuid
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from matchkit.cache.places.endpoint import ObjectStore, open_store, told
from matchkit.cache.places.place import Buffer, Claimed, Piece
from matchkit.cache.places.ranges import Request, flat_bytes, requests, together
from matchkit.core.errors import StoreError

CLAIMS = "ledger/claims"
LAYOUT_WAIT = 60.0
"""Seconds to wait for another writer that is changing the layout."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What some writer has claimed.

    Attributes:
        kind: what kind of thing.
        number: which of its kind.
        holder: the writer's host and process, as `host:pid`.
        since: UTC, in ISO 8601.
    """

    kind: str
    number: int
    holder: str
    since: str


class BucketPlace:
    """Named objects under a prefix (see `matchkit.cache.places.place.Place`), each of them whole or absent.

    A claim is an object that must be new. Those of a process that ends are given back; those of one that was killed
    stay, until somebody looks at `claims` and calls `break_claim`.

    Args:
        url: as the user wrote it, for messages.
        store: obstore's, whose root is the prefix.

    Attributes:
        writer: this writer's number once it has settled for one.
    """

    appends = False
    shared_files = False

    def __init__(self, url: str, store: ObjectStore) -> None:
        self.url = url
        self._store = store
        self.writer: int | None = None
        self._claimed: dict[str, bytes] = {}
        weakref.finalize(self, _give_back, store, self._claimed, os.getpid())

    @classmethod
    def at(cls, url: str) -> "BucketPlace":
        """The place at a URL, e.g. `s3://bucket/features.zarr`; nothing is asked of the server yet.

        Raises:
            StoreError: the URL is not understood or carries a secret, or obstore is not installed.
        """
        return cls(url, open_store(url))

    @property
    def objects(self) -> ObjectStore:
        """Obstore's store, for libraries that take one."""
        return self._store

    def read(self, name: str, start: int = 0) -> bytes:
        """An object's bytes from `start` on."""
        with suppress(EOFError), told(self.url, name):
            return self._store.get(name, options={"range": {"offset": start}} if start else {}).bytes().to_bytes()
        return b""

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """Some whole small objects; b"" for those that are not there."""
        found = [b""] * len(names)

        def read(position: int) -> None:
            with suppress(FileNotFoundError):
                found[position] = self.read(names[position])

        together([functools.partial(read, position) for position in range(len(names))])
        return found

    def fill(self, pieces: Sequence[Piece]) -> None:
        """Reads all pieces into their memory; near ones of an object by one request."""
        together([functools.partial(self._fetch, request) for request in requests(pieces)])

    def _fetch(self, request: Request) -> None:
        with told(self.url, request.name):
            found = self._store.get_range(request.name, start=request.start, end=request.end)
        data = np.frombuffer(memoryview(found), np.uint8)
        if data.size < request.end - request.start:
            raise EOFError(f"{self.url}: {request.name} ends before byte {request.end}")
        request.hand_out(data)

    def put(self, files: Mapping[str, Sequence[Buffer]]) -> None:
        """Writes whole objects at the same time; each takes its name when all of it is there."""
        together([functools.partial(self._put, name, buffers) for name, buffers in files.items()])

    def _put(self, name: str, buffers: Sequence[Buffer]) -> None:
        views = [
            buffer if isinstance(buffer, bytes) else flat_bytes(np.ascontiguousarray(buffer)).data for buffer in buffers
        ]
        with told(self.url, name):
            self._store.put(name, views, use_multipart=False)

    def append(self, name: str, line: bytes) -> None:
        """Writes a line as an object that must be new.

        Raises:
            StoreError: there is one of that name.
        """
        if not self._create(name, line):
            raise StoreError(f"{self.url}: {name} is there already: another writer uses the same number")

    def _create(self, name: str, data: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError

        with told(self.url, name):
            try:
                self._store.put(name, data, mode="create")
            except AlreadyExistsError:
                # by ourselves, perhaps, where the answer was lost and the request repeated
                return self._holds(name, data)
        return True

    def _holds(self, name: str, data: bytes) -> bool:
        with suppress(FileNotFoundError):
            return self.read(name) == data
        return False

    def sizes(self, folder: str) -> Mapping[str, int]:
        """The objects directly in a folder."""
        prefix = f"{folder}/" if folder else ""
        with told(self.url, folder):
            found = self._store.list_with_delimiter(folder)["objects"]
        sizes = {each["path"].removeprefix(prefix): each["size"] for each in found if each["path"].startswith(prefix)}
        # an object that stands for the root itself, as S3's web page makes them
        sizes.pop("", None)
        return sizes

    def is_empty(self) -> bool:
        """Whether there is nothing under the prefix, but for claims."""
        with told(self.url, ""):
            return not any(
                each["path"] and not each["path"].startswith(f"{CLAIMS}/")
                for page in self._store.list()
                for each in page
            )

    def delete(self, names: Iterable[str]) -> None:
        """Removes objects."""
        wanted = list(names)
        try:
            with told(self.url, ""):
                self._store.delete(wanted)
        except FileNotFoundError:  # Google and Azure say so, and leave the rest
            together([functools.partial(self._delete, name) for name in wanted])

    def _delete(self, name: str) -> None:
        with suppress(FileNotFoundError), told(self.url, name):
            self._store.delete(name)

    def settle(self, writer: int) -> None:
        """Writes under this number from now on; a killed writer leaves no part of an object behind."""
        self.writer = writer

    def beat(self) -> None:
        """Nothing to do: readers list the journals."""

    def pulse(self) -> bytes:
        """Always b"": asking would cost a request."""
        return b""

    def claim(self, kind: Claimed, number: int = 0) -> bool:
        """Takes something for this writer; for the layout it waits a while."""
        name = _claim_name(kind, number)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        claimant = {"host": socket.gethostname(), "pid": os.getpid(), "time": now, "token": uuid.uuid4().hex}
        data = json.dumps(claimant).encode()
        deadline = time.monotonic() + (LAYOUT_WAIT if kind == "layout" else 0.0)
        while name not in self._claimed:
            if self._create(name, data):
                self._claimed[name] = data
            elif time.monotonic() < deadline:
                time.sleep(0.2)
            else:
                return False
        return True

    def release(self, kind: Claimed, number: int = 0) -> None:
        """Gives back what was claimed, unless it was broken and belongs to another one now."""
        self._drop(_claim_name(kind, number))

    def _drop(self, name: str) -> None:
        data = self._claimed.get(name)
        if data is not None and self._holds(name, data):
            self.delete([name])
        # not before: what could not be given back is still this writer's, which would else refuse itself
        self._claimed.pop(name, None)

    def claims(self) -> list[Claim]:
        """All that is claimed in this place by any writer, dead ones too."""
        names = sorted(name for name in self.sizes(CLAIMS) if re.fullmatch(r"\w+\.\d+", name))
        found = self.read_all([f"{CLAIMS}/{name}" for name in names])
        return [_claim(name, data) for name, data in zip(names, found, strict=True) if data]

    def holder(self, kind: Claimed, number: int = 0) -> str:
        """Who holds what could not be claimed, since when, and what to do if it is dead."""
        for claim in self.claims():
            if (claim.kind, claim.number) == (kind, number):
                remedy = f"if that process is dead, run: matchkit cache gc --break-claims {self.url}"
                return f"by {claim.holder} since {claim.since}; {remedy}"
        return "by a process that has just ended; run this again"

    def held(self, kind: Claimed) -> list[int]:
        """The numbers of a kind that are claimed, by dead writers too."""
        return sorted(claim.number for claim in self.claims() if claim.kind == kind)

    def break_claim(self, kind: str, number: int = 0) -> None:
        """Takes from a writer, which must be dead, what it has claimed."""
        self.delete([_claim_name(kind, number)])

    def close(self) -> None:
        """Gives back everything that was claimed."""
        for name in list(self._claimed):
            self._drop(name)
        self.writer = None


def _give_back(store: ObjectStore, claimed: dict[str, bytes], process: int) -> None:
    """Gives back what a place still holds when it or its process ends; a forked child's copy holds nothing."""
    from obstore.exceptions import BaseError

    if os.getpid() == process:
        for name, data in claimed.items():
            # what stays for want of an answer is told to the next writer
            with suppress(BaseError, OSError):
                if store.get(name).bytes() == data:
                    store.delete(name)


def _claim_name(kind: str, number: int) -> str:
    return f"{CLAIMS}/{kind}.{number}"


def _claim(name: str, data: bytes) -> Claim:
    kind, _, number = name.partition(".")
    try:
        claimant = json.loads(data)
        holder, since = f"{claimant['host']}:{claimant['pid']}", str(claimant["time"])
    except (ValueError, KeyError, TypeError):
        holder, since = "an unknown writer", "an unknown time"
    return Claim(kind, int(number), holder, since)

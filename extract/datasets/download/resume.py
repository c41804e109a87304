"""A downloader for pooch that goes on where the last one stopped.

What has arrived lies in `<file>.part`, and beside it what the server said of the file. A server is asked for the rest
on the condition (`If-Range`) that its file is still the same one; where it cannot tell, all is fetched again.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.download.space import require_space

TRIES = 4
"""Tries in a row that bring nothing new before a server is given up."""
TIMEOUT = (15, 60)
"""Seconds to connect, and between two pieces."""
PIECE = 1 << 16
"""Bytes; a broken connection takes less than one with it."""
Progress = Callable[[int, int | None], None]
"""Is told the bytes so far and of the whole file, None where unknown."""


class _InterruptedError(Exception):
    """What another try may put right."""


TRANSIENT = (_InterruptedError, HTTPError, requests.ConnectionError, requests.Timeout)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a server said of a file: its address, size, and the tag by which it knows it again ("" where none)."""

    url: str
    size: int | None
    tag: str


class Resuming:
    """Fetches one file, in as many tries as bring something new.

    Args:
        part: where to keep what has arrived.
        size: the file's bytes, where known; a server that has another number is refused.
        schemes: that an address, also one it is redirected to, may begin with.
        progress: is told how far it is.
        pause: seconds before the second try; doubled before each further one.
    """

    def __init__(
        self, part: Path, *, size: int | None, schemes: Sequence[str], progress: Progress, pause: float
    ) -> None:
        self._part = part
        self._size = size
        self._progress = progress
        self._pause = pause
        self._session = requests.Session()
        self._session.headers.update({"Accept-Encoding": "identity", "User-Agent": f"matchkit/{version('matchkit')}"})
        # no adapter, no way: that holds for file:// and for a redirection to http:// too
        self._session.adapters.clear()
        for scheme in schemes:
            self._session.mount(f"{scheme}://", HTTPAdapter())

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Fetches `url` into `output_file`, as pooch asks for it.

        Raises:
            DatasetError: the server refuses, sends something else, or is given up.
        """
        with self._session:
            self._fetch(url)
        self._part.replace(output_file)
        self._note.unlink()

    @property
    def _note(self) -> Path:
        return self._part.with_name(f"{self._part.name}.json")

    @property
    def _arrived(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _fetch(self, url: str) -> None:
        most, idle = self._arrived, 0
        while True:
            try:
                return self._go_on(url)
            except requests.exceptions.SSLError as error:
                raise DatasetError(f"{url}: its server cannot prove who it is: {error}") from error
            except TRANSIENT as error:
                idle = 0 if self._arrived > most else idle + 1
                most = max(most, self._arrived)
                if idle == TRIES:
                    raise DatasetError(
                        f"{url} cannot be fetched: {_cause(error)}. What arrived is kept ({most:,} bytes): run again "
                        "to go on, or take another server with --mirror URL"
                    ) from error
                time.sleep(self._pause * 2.0 ** max(idle - 1, 0))
            except requests.RequestException as error:
                raise DatasetError(f"{url} cannot be fetched: {error}") from error
            except OSError as error:
                raise DatasetError(
                    f"{self._part} cannot be written: {error.strerror}. What arrived is kept; run again to go on"
                ) from error

    def _go_on(self, url: str) -> None:
        told = self._read_note(url) if self._arrived else None
        if told is not None and told.size == self._arrived:
            return
        headers = {} if told is None else {"Range": f"bytes={self._arrived}-", "If-Range": told.tag}
        with self._session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            self._require_file(url, answer)
            if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
                self._receive(answer, self._require_rest(answer, told), start=self._arrived)
            else:
                self._receive(answer, _Told(url, _number(answer.headers.get("Content-Length")), _tag(answer)), start=0)

    def _require_file(self, url: str, answer: requests.Response) -> None:
        status = f"its server answers {answer.status_code} {answer.reason}"
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise _InterruptedError(status)
        if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._forget(status)
        if answer.status_code not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise DatasetError(
                f"{url}: {status}. The file may have moved: another server is told with --mirror URL, archives that "
                "you have with --archives DIR"
            )
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise DatasetError(f"{url} is answered with a web page, not with a file: look at it in a browser")

    def _require_rest(self, answer: requests.Response, told: _Told | None) -> _Told:
        """What was told of the file, where the answer is the rest of that one."""
        held = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if told is None or held is None or (int(held[1]), int(held[2])) != (self._arrived, told.size):
            self._forget("its server sends something else than the rest")
        if _tag(answer) not in ("", told.tag):
            self._forget("its server has another file now")
        return told

    def _receive(self, answer: requests.Response, told: _Told, *, start: int) -> None:
        if self._size is not None and told.size not in (None, self._size):
            raise DatasetError(self._other_size(told.url, f"has {told.size:,} bytes"))
        require_space(self._part.parent, (told.size or 0) - start, purpose=f"the rest of {told.url}")
        done = start
        with self._part.open("ab" if start else "wb") as file:
            self._note.write_text(json.dumps(asdict(told)))
            self._progress(done, told.size)
            # as it is sent: some servers call a .tgz an encoding, which would be undone
            for piece in answer.raw.stream(PIECE, decode_content=False):
                file.write(piece)
                done += len(piece)
                self._progress(done, told.size)
                if self._size is not None and done > self._size:
                    break
        if self._size is not None and done != self._size:
            self._note.unlink()
            raise DatasetError(self._other_size(told.url, "sent fewer or more bytes"))

    def _other_size(self, url: str, found: str) -> str:
        return (
            f"{url} {found} instead of the {self._size:,} that are known. A new release that you trust is told with "
            "--sha256 HEX"
        )

    def _forget(self, reason: str) -> NoReturn:
        """Begins anew with the next try."""
        self._part.unlink(missing_ok=True)
        raise _InterruptedError(reason)

    def _read_note(self, url: str) -> _Told | None:
        """What the server said, if it can tell whether it still has the same file."""
        try:
            held: Any = json.loads(self._note.read_text())
            told = _Told(**held)
        except (OSError, ValueError, TypeError):
            return None
        return told if told.url == url and told.tag else None


def _tag(answer: requests.Response) -> str:
    """What the file is known by again; a weak tag is of what the file means, not of its bytes."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _cause(error: BaseException) -> str:
    """The last line of what went wrong: libraries put everything on the way into theirs."""
    reason = getattr(error, "reason", None) or (error.args[0] if error.args else error)
    return str(getattr(reason, "reason", None) or reason)

"""Fetching over a network that breaks: what arrives is whole and the known file, and nothing is asked for twice."""

import hashlib
import random
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import requests

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.download import resume
from matchkit.extract.datasets.download.fetch import fetch, require_known, sha256
from matchkit.extract.datasets.download.sources import RemoteFile

SIZE = 1_000_003
BODY = random.Random(0).randbytes(SIZE)
PIECE = resume.PIECE
KNOWN = RemoteFile("pictures.zip", {"": ""}, size=SIZE, checksum=f"sha256:{hashlib.sha256(BODY).hexdigest()}")
UNKNOWN = RemoteFile("pictures.zip", {"": ""})


@pytest.fixture
def server(file_server: Any) -> Any:
    """One that has the file."""
    file_server.files["/pictures.zip"] = BODY
    return file_server


def fetched(server: Any, folder: Path, file: RemoteFile = KNOWN) -> Path:
    url = f"{server.endpoint}/{file.name}"
    return fetch(file, folder, url=url, schemes=["http"], progress=lambda done, total: None, pause=0.0)


def refused(server: Any, folder: Path, *mentions: str, file: RemoteFile = KNOWN) -> None:
    with pytest.raises(DatasetError) as caught:
        fetched(server, folder, file)
    for mention in mentions:
        assert mention in str(caught.value)


@pytest.mark.parametrize("file", [KNOWN, UNKNOWN])
def test_a_file_arrives_whole_and_alone(server: Any, tmp_path: Path, file: RemoteFile) -> None:
    assert fetched(server, tmp_path, file) == tmp_path / "pictures.zip"
    assert (tmp_path / "pictures.zip").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["pictures.zip"]
    assert sha256(tmp_path / "pictures.zip") == hashlib.sha256(BODY).hexdigest()


def test_a_second_time_nothing_is_asked_for(server: Any, tmp_path: Path) -> None:
    fetched(server, tmp_path)
    fetched(server, tmp_path)
    assert server.seen == [("/pictures.zip", "")]


def test_a_file_that_was_spoilt_since_is_fetched_again(server: Any, tmp_path: Path) -> None:
    path = fetched(server, tmp_path)
    path.write_bytes(BODY[:-1])
    assert fetched(server, tmp_path).read_bytes() == BODY


def test_progress_is_told_from_the_first_byte_to_the_last(server: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    url = f"{server.endpoint}/pictures.zip"
    fetch(KNOWN, tmp_path, url=url, schemes=["http"], progress=lambda *x: told.append(x), pause=0.0)
    assert (told[0], told[-1]) == ((0, SIZE), (SIZE, SIZE))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_broken_connection_is_taken_up_where_it_broke(server: Any, tmp_path: Path) -> None:
    server.cuts = [300_000, 300_000]
    assert fetched(server, tmp_path, UNKNOWN).read_bytes() == BODY
    starts = [int(asked.removeprefix("bytes=").removesuffix("-") or 0) for _, asked in server.seen]
    assert 300_000 - PIECE < starts[1] <= 300_000
    assert 600_000 - 2 * PIECE < starts[2] <= 600_000
    assert len(starts) == 3
    assert server.sent < SIZE + 2 * PIECE


def test_a_run_that_was_ended_is_taken_up_by_the_next(server: Any, tmp_path: Path) -> None:
    server.cuts = [500_000] + [0] * resume.TRIES
    refused(server, tmp_path, "cannot be fetched", "What arrived is kept (", "run again to go on")
    assert not (tmp_path / "pictures.zip").exists()
    server.cuts, before = [], server.sent
    assert fetched(server, tmp_path, UNKNOWN).read_bytes() == BODY
    assert SIZE - 500_000 <= server.sent - before < SIZE - 500_000 + PIECE
    assert [path.name for path in tmp_path.iterdir()] == ["pictures.zip"]


def test_what_arrived_in_full_is_not_asked_for_again(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the last byte and the last rename."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda path, to: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetched(server, tmp_path)
    assert fetched(server, tmp_path).read_bytes() == BODY
    assert len(server.seen) == 1


@pytest.mark.parametrize("trait", ["ranges", "tagged"])
def test_where_a_rest_cannot_be_had_safely_all_is_fetched_again(server: Any, tmp_path: Path, trait: str) -> None:
    setattr(server, trait, False)
    server.cuts = [300_000]
    assert fetched(server, tmp_path).read_bytes() == BODY
    assert server.sent == 300_000 + SIZE


def test_a_file_that_was_replaced_meanwhile_is_never_mixed(server: Any, tmp_path: Path) -> None:
    server.cuts = [500_000] + [0] * resume.TRIES
    refused(server, tmp_path, "cannot be fetched", file=UNKNOWN)
    server.cuts, other = [], random.Random(1).randbytes(SIZE)
    server.files["/pictures.zip"] = other
    assert fetched(server, tmp_path, UNKNOWN).read_bytes() == other


def test_a_part_from_another_server_is_not_taken_up(server: Any, tmp_path: Path) -> None:
    server.cuts = [500_000] + [0] * resume.TRIES
    refused(server, tmp_path, file=UNKNOWN)
    server.cuts, before = [], len(server.seen)
    server.files["/mirror/pictures.zip"] = BODY
    url = f"{server.endpoint}/mirror/pictures.zip"
    fetch(UNKNOWN, tmp_path, url=url, schemes=["http"], progress=lambda done, total: None, pause=0.0)
    assert server.seen[before:] == [("/mirror/pictures.zip", "")]


def test_a_server_that_ignores_the_condition_is_found_out(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends the rest of the new file, of the same size, though asked for the old one's."""
    server.cuts = [500_000] + [0] * resume.TRIES
    refused(server, tmp_path, file=UNKNOWN)
    server.cuts, other = [], random.Random(1).randbytes(SIZE)
    server.files["/pictures.zip"] = other
    answer = server.answer
    monkeypatch.setattr(server, "answer", lambda path, asked, condition: answer(path, asked, ""))
    assert fetched(server, tmp_path, UNKNOWN).read_bytes() == other


def test_a_part_that_is_longer_than_the_file_is_forgotten(server: Any, tmp_path: Path) -> None:
    server.cuts = [500_000] + [0] * resume.TRIES
    refused(server, tmp_path)
    server.cuts = []
    (tmp_path / "pictures.zip.part").write_bytes(BODY + b"more")
    assert fetched(server, tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": 1}'])
def test_a_spoilt_note_is_no_hindrance(server: Any, tmp_path: Path, note: str) -> None:
    (tmp_path / "pictures.zip.part").write_bytes(b"something")
    (tmp_path / "pictures.zip.part.json").write_text(note)
    assert fetched(server, tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(server: Any, tmp_path: Path, status: int) -> None:
    server.statuses = [status] * (resume.TRIES - 1)
    assert fetched(server, tmp_path).read_bytes() == BODY
    server.statuses = [status] * resume.TRIES
    (tmp_path / "pictures.zip").unlink()
    refused(server, tmp_path, f"its server answers {status}", "--mirror URL")


@pytest.mark.parametrize("status", [404, 403])
def test_a_server_that_refuses_is_asked_once(server: Any, tmp_path: Path, status: int) -> None:
    server.statuses = [status]
    refused(server, tmp_path, f"its server answers {status}", "--mirror URL", "--archives DIR")
    assert len(server.seen) == 1


def test_pauses_grow(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("matchkit.extract.datasets.download.resume.time.sleep", pauses.append)
    server.statuses = [500, 500, 500]
    url = f"{server.endpoint}/pictures.zip"
    fetch(KNOWN, tmp_path, url=url, schemes=["http"], progress=lambda done, total: None, pause=0.5)
    assert pauses == [0.5, 1.0, 2.0]


def test_no_server_at_all(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"http://127\.0\.0\.1:9/a\.zip cannot be fetched: .*refused"):
        fetch(
            RemoteFile("a.zip", {}),
            tmp_path,
            url="http://127.0.0.1:9/a.zip",
            schemes=["http"],
            progress=lambda done, total: None,
            pause=0.0,
        )


def test_a_truncated_file_is_refused_before_it_is_fetched(server: Any, tmp_path: Path) -> None:
    server.files["/pictures.zip"] = BODY[:-1]
    refused(server, tmp_path, "has 1,000,002 bytes instead of the 1,000,003 that are known", "--sha256 HEX")
    assert not (tmp_path / "pictures.zip").exists()


@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"!"])
def test_a_file_of_another_size_is_refused_where_the_server_tells_none(
    server: Any, tmp_path: Path, body: bytes
) -> None:
    server.files["/pictures.zip"], server.lengths = body, False
    refused(server, tmp_path, "fewer or more bytes instead of the 1,000,003")
    assert not (tmp_path / "pictures.zip").exists()


def test_a_corrupted_file_is_refused_and_removed(server: Any, tmp_path: Path) -> None:
    spoilt = bytearray(BODY)
    spoilt[500_000] ^= 1
    server.files["/pictures.zip"] = bytes(spoilt)
    refused(server, tmp_path, "does not match", hashlib.sha256(spoilt).hexdigest(), "--sha256 HEX")
    assert list(tmp_path.iterdir()) == []


def test_a_web_page_is_no_file(server: Any, tmp_path: Path) -> None:
    server.headers["Content-Type"] = "text/html; charset=utf-8"
    refused(server, tmp_path, "answered with a web page", file=UNKNOWN)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_a_server_calls_an_encoding_stays_as_it_is(server: Any, tmp_path: Path) -> None:
    server.headers["Content-Encoding"] = "x-gzip"
    assert fetched(server, tmp_path, UNKNOWN).read_bytes() == BODY


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://somewhere/a.zip", "http://somewhere/a.zip", "a.zip"])
def test_only_https_unless_told(tmp_path: Path, url: str) -> None:
    with pytest.raises(DatasetError, match="is no address that begins with https://"):
        fetch(KNOWN, tmp_path, url=url, schemes=["https"], progress=lambda done, total: None)


@pytest.mark.parametrize("to", ["ftp://127.0.0.1/a.zip", "file:///etc/hostname"])
def test_a_redirection_does_not_lead_elsewhere(server: Any, tmp_path: Path, to: str) -> None:
    server.redirected["/pictures.zip"] = to
    refused(server, tmp_path, "cannot be fetched: No connection adapters were found")
    assert list(tmp_path.iterdir()) == []


def test_a_redirection_from_https_to_http_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = requests.Response()
    answer.status_code, answer.url, answer.raw = 302, "https://somewhere/pictures.zip", None
    answer.headers["Location"] = "http://somewhere/pictures.zip"
    monkeypatch.setattr(answer, "_content", b"")

    def send(adapter: object, request: requests.PreparedRequest, **_: object) -> requests.Response:
        answer.request = request
        return answer

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    with pytest.raises(DatasetError, match="No connection adapters were found for 'http://"):
        fetch(KNOWN, tmp_path, url=answer.url, schemes=["https"], progress=lambda done, total: None, pause=0.0)


def test_a_redirection_that_stays_is_followed(server: Any, tmp_path: Path) -> None:
    server.files["/moved"] = BODY
    server.redirected["/pictures.zip"] = f"{server.endpoint}/moved"
    assert fetched(server, tmp_path).read_bytes() == BODY


def test_a_disk_without_room_is_found_before_the_first_byte(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ["free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(SIZE - 1))
    refused(server, tmp_path, "1,000,002 bytes free", "--root DIR")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(SIZE))
    assert fetched(server, tmp_path).read_bytes() == BODY


def test_a_disk_that_fills_up_keeps_what_arrived(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(done: int, total: int | None) -> None:
        if done > 500_000:
            raise OSError(28, "No space left on device")

    url = f"{server.endpoint}/pictures.zip"
    with pytest.raises(DatasetError, match=r"pictures\.zip\.part cannot be written: No space left .* kept"):
        fetch(KNOWN, tmp_path, url=url, schemes=["http"], progress=full, pause=0.0)
    assert fetched(server, tmp_path).read_bytes() == BODY
    assert server.seen[1][1].startswith("bytes=")


def test_files_that_were_fetched_by_hand_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "pictures.zip"
    path.write_bytes(BODY)
    require_known(KNOWN, path)
    require_known(RemoteFile("pictures.zip", {}, checksum=f"sha1:{hashlib.sha1(BODY).hexdigest()}"), path)
    path.write_bytes(BODY[:-1])
    require_known(UNKNOWN, path)
    with pytest.raises(DatasetError, match=r"has 1,000,002 bytes instead of the 1,000,003"):
        require_known(KNOWN, path)
    path.write_bytes(BODY[:-1] + b"!")
    with pytest.raises(DatasetError, match=r"has the SHA256 [0-9a-f]{64} instead of [0-9a-f]{64}"):
        require_known(KNOWN, path)

"""Claims: one holder at a time, among objects and processes, and none that is dead."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from matchkit.cache.places.claims import Claims

HOLD = """
import fcntl, sys
if "posix" in sys.argv:
    del fcntl.F_OFD_SETLK
from pathlib import Path
from matchkit.cache.places.claims import Claims
claims = Claims(Path(sys.argv[1]))
print(claims.take("writer", 0), claims.take("images", 7), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "claims"


@contextmanager
def holder(path: Path, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that holds writer 0 and images 7."""
    command = [sys.executable, "-P", "-c", HOLD, str(path), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True True\n"
        yield process
        process.kill()


def test_two_objects_of_one_process_exclude_each_other(path: Path) -> None:
    one, other = Claims(path), Claims(path)
    assert one.take("images", 3)
    assert one.take("images", 3)
    assert not other.take("images", 3)
    assert other.take("images", 2)
    assert other.take("writer", 3)
    assert other.take("layout", 3)
    one.drop("images", 3)
    one.drop("images", 99)
    assert other.take("images", 3)
    assert not one.take("images", 3)


def test_closing_and_forgetting_free_everything(path: Path) -> None:
    one, other = Claims(path), Claims(path)
    for kind in ("images", "writer", "layout"):
        assert one.take(kind, 5)
        assert not other.take(kind, 5)
    one.close()
    one.close()
    for kind in ("images", "writer", "layout"):
        assert other.take(kind, 5)
    del other
    assert Claims(path).take("layout", 5)
    assert path.read_bytes() == b""


def test_another_process_is_excluded_until_it_is_killed(path: Path) -> None:
    claims = Claims(path)
    with holder(path) as process:
        assert not claims.take("writer", 0)
        assert not claims.take("images", 7)
        assert claims.take("images", 8)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert claims.take("writer", 0)
        assert claims.take("images", 7)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_hold_on_to_what_its_parent_gives_back(path: Path) -> None:
    claims = Claims(path)
    assert claims.take("images", 1)
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        assert not Claims(path).take("images", 1)
        claims.close()
        assert Claims(path).take("images", 1)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_where_locks_belong_to_processes_these_exclude_each_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(fcntl, "F_OFD_SETLK", raising=False)
    claims = Claims(path)
    with holder(path, "posix") as process:
        assert not claims.take("writer", 0)
        assert not claims.take("images", 7)
        assert claims.take("images", 8)
        claims.drop("images", 8)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert claims.take("writer", 0)
        claims.close()
    with holder(path, "posix"):
        assert not Claims(path).take("writer", 0)

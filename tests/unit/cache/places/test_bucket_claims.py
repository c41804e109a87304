"""What writers claim in a bucket, and what becomes of it when they end or are killed."""

import json
import socket
import subprocess
import sys
import threading

import pytest

from matchkit.cache.places import bucket
from matchkit.cache.places.bucket import BucketPlace


@pytest.fixture
def place(object_url: str) -> BucketPlace:
    """A place with nothing in it."""
    return BucketPlace.at(object_url)


def _python(program: str) -> subprocess.Popen[str]:
    program = f"from matchkit.cache.places.bucket import BucketPlace\n{program}"
    return subprocess.Popen([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, text=True)


def test_a_claim_is_held_by_one(place: BucketPlace) -> None:
    other = BucketPlace.at(place.url)
    assert place.claim("writer", 3)
    assert place.claim("writer", 3)
    assert not other.claim("writer", 3)
    assert other.claim("writer", 4)
    assert other.claim("images", 3)
    place.release("writer", 3)
    place.release("writer", 4)
    assert other.claim("writer", 3)
    assert not place.claim("writer", 4)
    other.close()
    assert place.claim("writer", 4)
    assert place.claim("images", 3)


def test_two_that_race_for_a_claim(object_url: str) -> None:
    places = [BucketPlace.at(object_url), BucketPlace.at(object_url)]
    start = threading.Barrier(2)
    won: list[tuple[int, int]] = []

    def race(runner: int) -> None:
        for number in range(20):
            start.wait()
            if places[runner].claim("images", number):
                won.append((number, runner))

    runners = [threading.Thread(target=race, args=(runner,)) for runner in range(2)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert sorted(number for number, _ in won) == list(range(20))


def test_the_layout_is_waited_for(place: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    other = BucketPlace.at(place.url)
    assert other.claim("layout")
    later = threading.Timer(0.3, other.release, ["layout"])
    later.start()
    assert place.claim("layout")
    later.join()
    monkeypatch.setattr(bucket, "LAYOUT_WAIT", 0.0)
    assert not other.claim("layout")


def test_a_claim_is_given_back_with_its_place(object_url: str) -> None:
    place, other = BucketPlace.at(object_url), BucketPlace.at(object_url)
    assert place.claim("writer", 0)
    del place
    assert other.claims() == []


def test_a_process_that_ends_gives_back_its_claims(bucket_url: str) -> None:
    process = _python(f"p = BucketPlace.at('{bucket_url}')\nprint(p.claim('writer', 2), p.claim('layout'))")
    assert process.communicate()[0] == "True True\n"
    assert process.returncode == 0
    assert BucketPlace.at(bucket_url).claims() == []


def test_the_claim_of_a_killed_process_stays_until_it_is_broken(bucket_url: str) -> None:
    program = f"p = BucketPlace.at('{bucket_url}')\np.claim('writer', 2)\nprint('claimed', flush=True)\ninput()"
    process = _python(program)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    process.kill()
    process.communicate()
    place = BucketPlace.at(bucket_url)
    assert not place.claim("writer", 2)
    holder = f"{socket.gethostname()}:{process.pid}"
    (claim,) = place.claims()
    assert (claim.kind, claim.number, claim.holder) == ("writer", 2, holder)
    told = place.holder("writer", 2)
    assert told.startswith(f"by {holder} since {claim.since};")
    assert told.endswith(f"run: matchkit cache gc --break-claims {bucket_url}")
    place.break_claim(claim.kind, claim.number)
    assert "just ended" in place.holder("writer", 2)
    assert place.claim("writer", 2)


def test_a_broken_claim_is_not_given_back_for_the_next_holder(place: BucketPlace) -> None:
    slow, third = BucketPlace.at(place.url), BucketPlace.at(place.url)
    assert slow.claim("writer", 0)
    place.break_claim("writer", 0)
    assert place.claim("writer", 0)
    slow.release("writer", 0)
    assert not third.claim("writer", 0)


def test_a_claim_that_cannot_be_read_is_told_all_the_same(place: BucketPlace) -> None:
    place.put({"ledger/claims/writer.7": [b"\xff"], "ledger/claims/README": [b"hello"]})
    (claim,) = place.claims()
    assert (claim.kind, claim.number, claim.holder) == ("writer", 7, "an unknown writer")
    place.break_claim(claim.kind, claim.number)
    assert place.claims() == []


def test_obstore_is_not_imported_before_it_is_used() -> None:
    process = _python("import sys, json\nprint(json.dumps([name for name in sys.modules if 'obstore' in name]))")
    assert json.loads(process.communicate()[0]) == []

"""The journal: what is complete, whatever a kill left of its last line."""

import json
from pathlib import Path

import pytest

from matchkit.cache.ledger import Entry, Ledger

A, B, C = Entry(1, {"up0.0": 11}), Entry(2, {"up0.0": 22}), Entry(3, {"up0.0": 33})


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal that says a and b are complete."""
    ledger = Ledger(tmp_path)
    ledger.record("a", A)
    ledger.record("b", B)
    return tmp_path / "journal.jsonl"


def held(journal: Path) -> dict[str, Entry]:
    return dict(Ledger(journal.parent).complete)


def test_nothing_there_is_nothing_complete(tmp_path: Path) -> None:
    assert Ledger(tmp_path).complete == {}


def test_records_are_read_back(journal: Path) -> None:
    assert held(journal) == {"a": A, "b": B}
    assert [json.loads(line)["id"] for line in journal.read_text().splitlines()] == ["a", "b"]


def test_the_last_line_about_an_image_counts(journal: Path) -> None:
    ledger = Ledger(journal.parent)
    ledger.withdraw("a")
    assert held(journal) == dict(ledger.complete) == {"b": B}
    ledger.record("a", C)
    assert held(journal) == dict(ledger.complete) == {"a": C, "b": B}


def test_a_line_cut_short_is_no_line(journal: Path) -> None:
    whole = journal.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        journal.write_bytes(whole[:end])
        assert held(journal) == {"a": A}, whole[first:end]


def test_the_next_line_is_not_swallowed_and_completes_nothing(journal: Path) -> None:
    whole = journal.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        journal.write_bytes(whole[:end])
        ledger = Ledger(journal.parent)
        ledger.record("c", C)
        assert held(journal) == dict(ledger.complete) == {"a": A, "c": C}, whole[first:end]


def test_a_journal_of_one_torn_line(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[:5])
    Ledger(journal.parent).record("c", C)
    assert held(journal) == {"c": C}


def test_a_torn_line_longer_than_a_block(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes() + b'{"id":"' + b"x" * 10_000)
    Ledger(journal.parent).record("c", C)
    assert held(journal) == {"a": A, "b": B, "c": C}


def test_zeros_after_a_power_cut_are_read_over(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes() + b"\0" * 100 + b"\n")
    assert held(journal) == {"a": A, "b": B}


def test_the_manifest_changes_with_spec_and_content_alone(journal: Path) -> None:
    def manifest(spec: str) -> bytes:
        return Ledger(journal.parent).write_manifest(spec_digest=spec).read_bytes()

    first = manifest("s1")
    assert json.loads(first).items() >= {"spec": "s1", "images": 2}.items()
    Ledger(journal.parent).record("a", A)  # the same again, in another order
    assert manifest("s1") == first
    assert manifest("s2") != first
    Ledger(journal.parent).record("a", Entry(1, {"up0.0": 12}))
    assert json.loads(manifest("s1"))["content"] != json.loads(first)["content"]
    assert [path.name for path in journal.parent.iterdir() if path.suffix == ".tmp"] == []

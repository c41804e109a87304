"""Lists of exemplars: what is written is read, and a list that is none says where."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matchkit.core.errors import DatasetError
from matchkit.core.exemplars import Exemplars, read_exemplars, write_exemplars

LISTS = [
    Exemplars("cat/1", ("cat/2", "dog/ä"), (0.75, -0.25), ("cat/3",)),
    Exemplars("cat/2", ("cat/1",)),
    Exemplars("cat/3", ()),
]
NAMES = st.lists(st.text(min_size=1, max_size=5), max_size=3).map(tuple)
GOOD = '{"image": "a", "nearest": ["b"], "similarities": [0.5], "same": []}'


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "trn.jsonl"
    write_exemplars(path, LISTS)
    assert list(read_exemplars(path).values()) == LISTS
    assert list(read_exemplars(path)) == ["cat/1", "cat/2", "cat/3"]
    assert path.read_text(encoding="utf-8").count("\n") == 3


@settings(max_examples=20, deadline=None)
@given(image=st.text(min_size=1), nearest=NAMES, same=NAMES, values=st.lists(st.floats(-1, 1), max_size=3))
def test_any_name_and_any_similarity(
    tmp_path_factory: pytest.TempPathFactory,
    image: str,
    nearest: tuple[str, ...],
    same: tuple[str, ...],
    values: list[float],
) -> None:
    entry = Exemplars(image, nearest, tuple(values), same)
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    write_exemplars(path, [entry])
    assert dict(read_exemplars(path)) == {image: entry}


def test_a_list_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing() -> Iterator[Exemplars]:
        yield LISTS[1]
        raise RuntimeError("power cut")

    path = tmp_path / "trn.jsonl"
    write_exemplars(path, LISTS)
    with pytest.raises(RuntimeError, match="power cut"):
        write_exemplars(path, failing())
    assert len(read_exemplars(path)) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no list of exemplars at .*trn\.jsonl\. Run: matchkit pairs"):
        read_exemplars(tmp_path / "trn.jsonl")


def test_an_empty_list(tmp_path: Path) -> None:
    write_exemplars(tmp_path / "trn.jsonl", [])
    with pytest.raises(DatasetError, match=r"trn\.jsonl lists no image"):
        read_exemplars(tmp_path / "trn.jsonl")


@pytest.mark.parametrize(
    "line",
    [
        "a,b",
        "[]",
        '{"image": "a", "nearest": ["b"], "similarities": []}',
        '{"image": "a", "nearest": 3, "similarities": [], "same": []}',
        '{"image": "a", "nearest": ["b"], "similarities": ["high"], "same": []}',
    ],
)
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trn.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(DatasetError, match=r"trn\.jsonl, line 2 is no entry of a list of exemplars"):
        read_exemplars(path)

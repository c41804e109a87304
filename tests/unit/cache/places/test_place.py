"""Writers of a place: each has a number of its own, and one at a time changes the layout."""

from pathlib import Path

import pytest

from matchkit.cache.places import local
from matchkit.cache.places.bucket import BucketPlace
from matchkit.cache.places.local import LocalPlace
from matchkit.cache.places.place import begin_writing, changing, is_url, open_place
from matchkit.core.errors import StoreError


def test_a_writer_has_the_lowest_number_that_no_living_one_has(tmp_path: Path) -> None:
    places = [LocalPlace(tmp_path / "F.zarr") for _ in range(3)]
    assert [begin_writing(place) for place in places] == [0, 1, 2]
    assert [begin_writing(place) for place in places] == [0, 1, 2]
    places[1].close()
    late = [LocalPlace(tmp_path / "F.zarr") for _ in range(2)]
    assert [begin_writing(place) for place in late] == [1, 3]
    assert begin_writing(places[1]) == 4
    for place in (*places, *late):
        place.close()


def test_one_writer_at_a_time_changes_the_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LAYOUT_WAIT", 0.0)
    one, other = (LocalPlace(tmp_path / "F.zarr") for _ in range(2))
    refused = pytest.raises(StoreError, match=r"F\.zarr is being changed by another process")
    with changing(one), refused, changing(other):
        pass
    with changing(other):
        pass
    with pytest.raises(KeyError), changing(one):
        raise KeyError
    with changing(other):
        pass
    one.close()
    other.close()


def test_paths_and_urls(tmp_path: Path) -> None:
    assert isinstance(open_place(tmp_path), LocalPlace)
    assert isinstance(open_place(str(tmp_path)), LocalPlace)
    assert not list(tmp_path.iterdir())
    assert is_url("s3://bucket/F.zarr")
    assert not is_url("features/toy.zarr")
    assert isinstance(open_place("memory:///F.zarr"), BucketPlace)
    with pytest.raises(StoreError, match="ftp://host/F"):
        open_place("ftp://host/F")

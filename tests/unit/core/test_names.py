"""Names that every disk takes."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matchkit.core.errors import DatasetError
from matchkit.core.names import plain_name, safe_name

WINDOWS_TAKES = re.compile(r'[^<>:"\\|?*\x00-\x1f]*')
DEVICES = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))}


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("000001-2008_1-2008_2:cat", "000001-2008_1-2008_2%3Acat"),
        ("Felidae/king cheetah/000000000003", "Felidae/king cheetah/000000000003"),
        ('a<b>c"d|e?f*g\\h', "a%3Cb%3Ec%22d%7Ce%3Ff%2Ag%5Ch"),
        ("100%", "100%25"),
        ("tab\there", "tab%09here"),
        ("../a", ".%2E/a"),
        ("a /b.", "a%20/b%2E"),
        ("cats/CON", "cats/%43ON"),
        ("nul.jpg", "%6Eul.jpg"),
        ("console/icons", "console/icons"),
        ("a\u0308", "ä"),
        ("", ""),
    ],
)
def test_what_a_name_becomes(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    if name != "a\u0308":
        assert plain_name(safe) == name


@pytest.mark.parametrize("name", ["/data/cat", "\\\\host\\cat", "C:\\cat", "c:/cat"])
def test_no_absolute_path(name: str) -> None:
    with pytest.raises(DatasetError, match="is an absolute path: name it by its place below the dataset's folder"):
        safe_name(name)


@pytest.mark.parametrize("safe", ["a:b", "%3a", "%41", "con", "%2Fa", "%FF", "a\u0308"])
def test_what_is_no_safe_name_is_not_read(safe: str) -> None:
    with pytest.raises(ValueError, match=r"is no name of a manifest|absolute|decode"):
        plain_name(safe)


@given(st.text(max_size=12))
def test_any_name_survives_and_every_disk_takes_it(name: str) -> None:
    try:
        safe = safe_name(name)
    except DatasetError:
        return
    assert safe_name(plain_name(safe)) == safe
    assert len({name, plain_name(safe)}) == 1 or plain_name(safe) == unicodedata.normalize("NFC", name)
    for part in safe.split("/"):
        assert WINDOWS_TAKES.fullmatch(part)
        assert not part.endswith((".", " "))
        assert part.split(".")[0].rstrip().lower() not in DEVICES

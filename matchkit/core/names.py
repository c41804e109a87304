"""Names that could be files on any disk: Windows' rules are the narrowest."""

import re
import unicodedata
from urllib.parse import unquote

from matchkit.core.errors import DatasetError

ILLEGAL = re.compile(r'[<>:"\\|?*%\x00-\x1f\x7f]|[. ](?=/|$)')
"""What no part of a path may hold on Windows, or end in; and the sign that stands before the others' codes."""
DEVICE = re.compile(r"(?<![^/])(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?=[. /]|$)", re.IGNORECASE)
"""Parts of a path that are devices there, whatever ending they have."""
ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")


def safe_name(name: str) -> str:
    r"""A name of letters that every disk takes: all others are written as `%` and two hexadecimal digits.

    Unicode is brought to its form NFC: some disks decompose what they are given. A slash stays.

    Raises:
        DatasetError: it is an absolute path.

    Example:
        >>> safe_name("000001-cat_1-cat_2:cat")
        '000001-cat_1-cat_2%3Acat'
        >>> safe_name("cats/con.jpg")
        'cats/%63on.jpg'
    """
    if ABSOLUTE.match(name):
        raise DatasetError(f"'{name}' is an absolute path: name it by its place below the dataset's folder")
    safe = ILLEGAL.sub(lambda found: _code(found[0]), unicodedata.normalize("NFC", name))
    return DEVICE.sub(lambda found: _code(found[0][0]) + found[0][1:], safe)


def plain_name(safe: str) -> str:
    """The name that `safe_name` wrote.

    Raises:
        ValueError: it wrote no such name.
    """
    name = unquote(safe, errors="strict")
    if safe_name(name) != safe:
        raise ValueError(f"'{safe}' is no name of a manifest")
    return name


def _code(character: str) -> str:
    return f"%{ord(character):02X}"

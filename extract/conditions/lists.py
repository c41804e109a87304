"""Lists of images as text: of a split's images, of exemplars, of groups.

A line holds names separated by commas, in whatever way the list's author names images: with backslashes, with an
ending or without. Blank lines do not count. Source: CoCosNet §4.2.
"""

import csv
from collections.abc import Callable
from pathlib import Path

from matchkit.core.errors import DatasetError

Find = Callable[[str], str | None]
"""The id of the image that a name stands for, or None; its backslashes are slashes already."""
KEY = "key"
"""How the first line of a list of exemplars begins that only names the columns."""
SPLIT_FILES = {"trn": "train.txt", "val": "val.txt", "test": "test.txt"}
"""The files of the published data sets that list a split's images."""


def read_rows(path: Path, *, what: str) -> list[tuple[int, list[str]]]:
    """The lines of a list that are not blank, with their numbers from 1; commas at their end do not count.

    Raises:
        DatasetError: the file is missing, `what` it says, or is no text in UTF-8, or has nothing but blank lines.
    """
    try:
        # a spreadsheet writes a byte order mark
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, _trimmed(row)) for row in reader]
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing: {what}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a list in UTF-8: {error}") from error
    kept = [(number, row) for number, row in rows if row]
    if not kept:
        raise DatasetError(f"{path} is empty: {what}")
    return kept


def read_images(path: Path, find: Find, *, what: str) -> tuple[str, ...]:
    """The ids of the images of a list, one a line, in its order.

    Raises:
        DatasetError: the file is missing or empty, or a line does not name an image, or one that stood before.
    """
    found: dict[str, int] = {}
    for number, row in read_rows(path, what=what):
        if len(row) > 1:
            raise DatasetError(f"{path}: line {number} must name one image, not {len(row)}")
        _add(found, _image(row[0], find, path=path, line=number), path=path, line=number)
    return tuple(found)


def read_exemplars(path: Path, find: Find) -> dict[str, tuple[str, ...]]:
    """The images of a list with their exemplars, the nearest first: lines `key,exemplar1,exemplar2,...`.

    A first line that begins with `key` names the columns, unless an image is called so.

    Raises:
        DatasetError: the file is missing or empty, or a line names what is no image, no exemplar, or an image that
            stood before.
    """
    lines: dict[str, int] = {}
    exemplars: dict[str, tuple[str, ...]] = {}
    rows = read_rows(path, what="it says which images are exemplars of which")
    if rows[0][1][0] == KEY and find(KEY) is None:
        del rows[0]
    for number, row in rows:
        image, *others = (_image(name, find, path=path, line=number) for name in row)
        if not others:
            raise DatasetError(f"{path}: line {number} names no exemplar of '{image}'")
        _add(lines, image, path=path, line=number)
        exemplars[image] = tuple(others)
    return exemplars


def exemplars_of(path: Path, images: tuple[str, ...], find: Find) -> dict[str, tuple[str, ...]]:
    """The exemplars that a list has of some images, those of a split.

    Raises:
        DatasetError: it has of none of them, or is malformed.
    """
    wanted = set(images)
    held = {image: others for image, others in read_exemplars(path, find).items() if image in wanted}
    if not held:
        raise DatasetError(f"{path} has no line of the split's {len(images)} images, the first of them '{images[0]}'")
    return held


def read_split(root: Path, split: str, find: Find, *, name: str) -> tuple[str, ...]:
    """The images that a published data set's file lists of a split.

    Raises:
        DatasetError: no such split, or its file is missing or malformed.
    """
    if split not in SPLIT_FILES:
        raise DatasetError(f"{name} has no split '{split}'; there are: {', '.join(SPLIT_FILES)}")
    return read_images(root / SPLIT_FILES[split], find, what=f"it lists the images of split '{split}' of {name}")


def read_exemplar_list(
    root: Path, stem: str, *, split: str, images: tuple[str, ...], find: Find
) -> dict[str, tuple[str, ...]]:
    """The exemplars of a split's images: of `trn` in `<stem>_ref.txt`, of the others in `<stem>_ref_test.txt`.

    Raises:
        DatasetError: the list is missing or malformed, or has none of the images.
    """
    return exemplars_of(root / f"{stem}_ref{'' if split == 'trn' else '_test'}.txt", images, find)


def read_table(path: Path, columns: tuple[str, str], find: Find, *, what: str) -> dict[str, str]:
    """What a table of two named columns says of images, by their ids.

    Raises:
        DatasetError: the file is missing, its first line does not name the columns, or another does not hold an image
            and a value, or an image that stood before.
    """
    rows = read_rows(path, what=what)
    if tuple(rows[0][1]) != columns:
        raise DatasetError(f"{path}: line {rows[0][0]} must be {','.join(columns)}, not {','.join(rows[0][1])[:60]}")
    lines: dict[str, int] = {}
    told: dict[str, str] = {}
    for number, row in rows[1:]:
        if len(row) != len(columns):
            raise DatasetError(f"{path}: line {number} must hold {','.join(columns)}, not {len(row)} values")
        image = _image(row[0], find, path=path, line=number)
        _add(lines, image, path=path, line=number)
        told[image] = row[1]
    return told


def _trimmed(row: list[str]) -> list[str]:
    fields = [field.strip() for field in row]
    while fields and not fields[-1]:
        fields.pop()
    return fields


def _image(name: str, find: Find, *, path: Path, line: int) -> str:
    image = find(name.replace("\\", "/"))
    if image is None:
        raise DatasetError(f"{path}: line {line}: no image '{name[:200]}' in the dataset")
    return image


def _add(lines: dict[str, int], image: str, *, path: Path, line: int) -> None:
    if image in lines:
        raise DatasetError(f"{path}: line {line} names '{image}' again, after line {lines[image]}")
    lines[image] = line

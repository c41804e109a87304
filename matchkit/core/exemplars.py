"""Which photographs are exemplars for which image: a list in a file, made once, read by every fit and evaluation."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from matchkit.core.errors import DatasetError

Rank = Literal["easy", "hard", "same"]
"""The nearest exemplar, the last one of the list, and another photograph of the same thing."""
ANEW = "or another list. Run: matchkit pairs"


@dataclass(frozen=True, slots=True)
class Exemplars:
    """The exemplars of one image.

    Attributes:
        image: whose they are.
        nearest: other things' photographs, the most similar first: the first one is the easy exemplar, the last one
            the hard one.
        similarities: of each of these, -1..1; empty where the dataset's own list says none.
        same: other photographs of the same thing.
    """

    image: str
    nearest: tuple[str, ...]
    similarities: tuple[float, ...] = ()
    same: tuple[str, ...] = ()

    def of(self, rank: Rank) -> str:
        """The exemplar of a rank.

        Raises:
            DatasetError: there is none.
        """
        choices = self.same if rank == "same" else self.nearest
        if not choices:
            raise DatasetError(f"'{self.image}' has no exemplar of rank '{rank}': more photographs are needed, {ANEW}")
        return choices[-1] if rank == "hard" else choices[0]


def write_exemplars(path: Path, lists: Iterable[Exemplars]) -> None:
    """Writes a JSON line an image, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(asdict(entry)) + "\n" for entry in lists), encoding="utf-8")
    temporary.replace(path)


def read_exemplars(path: Path) -> Mapping[str, Exemplars]:
    """Reads what `write_exemplars` wrote, by image.

    Raises:
        DatasetError: no such file, or a line that is no such entry, which the message names.
    """
    if not path.exists():
        raise DatasetError(f"no list of exemplars at {path}. Run: matchkit pairs")
    found: dict[str, Exemplars] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        entry = _entry(line, where=f"{path}, line {number}")
        found[entry.image] = entry
    if not found:
        raise DatasetError(f"{path} lists no image. Run: matchkit pairs")
    return MappingProxyType(found)


def _entry(line: str, *, where: str) -> Exemplars:
    try:
        data = json.loads(line)
        nearest, same = (tuple(str(name) for name in data[field]) for field in ("nearest", "same"))
        return Exemplars(str(data["image"]), nearest, tuple(float(x) for x in data["similarities"]), same)
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{where} is no entry of a list of exemplars: {error}. Run: matchkit pairs") from error

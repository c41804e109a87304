"""Trees of rendered pictures: made beside their place, moved there when complete, by several processes."""

import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from matchkit.core.errors import ConfigError, DatasetError

Progress = Callable[[int, int], None]
"""Called with (images made, images in all) after each one."""
Job = TypeVar("Job")
Made = TypeVar("Made")


def count_workers(asked: int | None) -> int:
    """The processes asked for; as many as this one may use cores, if not given.

    Raises:
        ConfigError: fewer than one.
    """
    if asked is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if asked < 1:
        raise ConfigError(f"the toy dataset needs at least one worker, not {asked}")
    return asked


def settings_text(settings: Mapping[str, Any]) -> str:
    """What a tree's note says of the settings that made it."""
    return json.dumps(settings, indent=2) + "\n"


def is_made(note: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the folder of `note` holds a tree of these very settings.

    Raises:
        DatasetError: it holds anything else.
    """
    root = note.parent
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not note.is_file():
        raise DatasetError(
            f"{root} is in the way: it holds no {note.stem} dataset. Give another folder, or move it away"
        )
    wanted = json.loads(settings_text(settings))
    try:
        found = json.loads(note.read_text())
    except ValueError as error:
        raise DatasetError(f"{note} cannot be read. Delete {root} to render it anew") from error
    if found == wanted:
        return True
    names = sorted(name for name in wanted if not isinstance(found, dict) or found.get(name) != wanted[name])
    raise DatasetError(
        f"{root} holds a {note.stem} dataset of other settings ({', '.join(names)}). "
        f"Give another folder, or delete {root} to render it anew"
    )


@contextmanager
def made_beside(root: Path) -> Iterator[Path]:
    """A folder to make a tree in, which is moved to `root` at the end; after an error nothing is left of it.

    `root` is missing or empty; its parents are made too.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as beside:
        tree = Path(beside) / root.name
        tree.mkdir()
        yield tree
        if root.is_dir():
            root.rmdir()
        shutil.move(tree, root)


@contextmanager
def mapped(function: Callable[[Job], Made], jobs: list[Job], *, workers: int) -> Iterator[Iterable[Made]]:
    """`map` over this process or over freshly started ones, in order."""
    if workers == 1 or len(jobs) < 2:
        yield map(function, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        try:
            yield pool.map(function, jobs, chunksize=max(1, min(16, len(jobs) // (4 * workers))))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def shares(total: int, parts: int) -> list[int]:
    """`total` things dealt out evenly over so many parts; the first ones get what is left over."""
    each, left = divmod(total, parts)
    return [each + (n < left) for n in range(parts)]

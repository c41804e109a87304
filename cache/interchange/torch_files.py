"""Files of `torch.save`: read without running any code that is in them, and written whole or not at all."""

import contextlib
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import torch

from matchkit.cache.places.durable import make_folder, sync
from matchkit.core.errors import StoreError

TEMPORARY = ".tmp"
"""What follows a file's name until it is whole."""
AGAIN = "Copy it again from where it was made"


def load_tensors(path: Path) -> object:
    """What was saved, with its tensors on the CPU whatever device they were saved from.

    Nothing is read into memory before it is used: the file is mapped, so a file of gigabytes costs what is looked at.

    Raises:
        StoreError: no such file, cut short, of no format that can be read safely, or with objects that need code.
    """
    if not path.is_file():
        raise StoreError(f"{path} is missing. {AGAIN}")
    if not zipfile.is_zipfile(path):
        raise StoreError(
            f"{path} is cut short or no file of torch.save since PyTorch 1.6. {AGAIN}, or load and save it with a "
            "newer PyTorch"
        )
    try:
        with warnings.catch_warnings():
            # of pickle protocols and storage types: what cannot be read is refused below
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"'{named[1]}'" if named else "objects other than tensors"
        raise StoreError(
            f"{path} holds {what}, which only running code from that file could restore; it is not read. "
            "Save its tensors alone with torch.save, in a dict or by themselves"
        ) from error
    except RuntimeError as error:
        raise StoreError(f"{path} is a zip file, but none of torch.save. Is it in the wrong folder?") from error


def check_bytes(path: Path) -> None:
    """Compares every byte of a file of `torch.save` with the checksums in it, which loading does not.

    Raises:
        StoreError: bytes have changed since it was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise StoreError(f"{path} is damaged: {error}. {AGAIN}") from error
    if damaged is not None:
        raise StoreError(f"{path} is damaged: its record {damaged} does not have its checksum. {AGAIN}")


def is_whole(path: Path) -> bool:
    """Whether a file is there to its end."""
    return path.is_file() and zipfile.is_zipfile(path)


def save_tensors(values: torch.Tensor | dict[str, torch.Tensor], path: Path) -> None:
    """Saves tensors under another name, durably, then gives the file its own.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        make_folder(path.parent)
        torch.save(values, temporary)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError of a full disk
        with contextlib.suppress(OSError):
            temporary.unlink()
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"{path} cannot be written: {reason}. What is whole is kept; free some space and run again"
        ) from error

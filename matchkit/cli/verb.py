"""What all verbs have in common: their options, `--json` and `-v`, their final line, and how they refuse."""

import dataclasses
import errno
import functools
import json
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from matchkit.core.errors import MatchkitError

Command = TypeVar("Command", bound=Callable[..., Any])
Line = Callable[[Any], str]

dataset_option = click.option("--dataset", required=True, help="Name of the dataset: toy, spair, folder.")
root_option = click.option(
    "--root", type=click.Path(path_type=Path), help="The dataset's tree. [default: data/<dataset>]"
)
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a parameter of params.yaml. Repeatable."
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
store_option = click.option(
    "--store", help="Feature store, a path or a URL. [default: features/<dataset>/<features>.zarr]"
)


def verb(command: Command) -> Command:
    """Gives a command `--json` and `-v`, turns what it returns into the final line, and its refusals into exit 1.

    The command returns the result and a function that puts it into one line.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
    @click.option("-v", "--verbose", is_flag=True, help="Log more, and show the traceback of an error.")
    @functools.wraps(command)
    def wrapped(*args: object, as_json: bool, verbose: bool, **options: object) -> None:
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        logging.getLogger("matchkit").setLevel(logging.DEBUG if verbose else logging.INFO)
        # ended by a scheduler, a verb gives back what it claimed in a bucket, as it does at its own end
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            result, line = command(*args, **options)
        except (MatchkitError, OSError) as error:
            if verbose:
                raise
            if isinstance(error, MatchkitError) or error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
                click.echo(f"Error: {error}", err=True)
                sys.exit(1)
            raise
        click.echo(json.dumps(_plain(result)) if as_json else line(result))

    return wrapped  # type: ignore[return-value]


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value

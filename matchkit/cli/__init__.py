"""The command line. Every verb is one function of `matchkit.pipelines`, imported when the verb is called.

One final line on stdout (`--json`: one JSON object), everything else on stderr. Exit 0 done, 1 refused, 2 usage.
"""

import dataclasses
import errno
import functools
import json
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from matchkit import __version__
from matchkit.core.errors import MatchkitError

Command = TypeVar("Command", bound=Callable[..., Any])
Line = Callable[[Any], str]
TABLES = {
    "backbones": ("matchkit.extract.backbones", "BACKBONES"),
    "datasets": ("matchkit.extract.datasets", "DATASETS"),
    "heads": ("matchkit.heads", "HEADS"),
    "matchers": ("matchkit.evaluate", "MATCHERS"),
}

dataset_option = click.option("--dataset", required=True, help="Name of the dataset: toy, spair, folder.")
root_option = click.option(
    "--root", type=click.Path(path_type=Path), help="The dataset's tree. [default: data/<dataset>]"
)
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a parameter of params.yaml. Repeatable."
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
store_option = click.option(
    "--store", type=click.Path(path_type=Path), help="Feature store. [default: features/<dataset>/<features>.zarr]"
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Semantic correspondence from the frozen features of Stable Diffusion and DINOv2."""


@main.command()
@dataset_option
@click.option("--backbone", default="sd-inversion", show_default=True, help="Entry of params.yaml, or a backbone.")
@root_option
@click.option("--weights", help="Folder or hub id of the backbone's weights. [default: the embedded ones]")
@click.option("--out", type=click.Path(path_type=Path), help="[default: features/<dataset>/<backbone>.zarr]")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images, for a trial.")
@set_option
@device_option
@verb
def extract(dataset: str, backbone: str, **options: Any) -> tuple[Any, Line]:
    """Run a frozen backbone over a dataset's images, once, into a feature store."""
    from matchkit.pipelines.extract import extract as run

    return run(
        dataset, backbone, **options
    ), lambda x: f"{x.store}: {x.done:,} images extracted, {x.present:,} were there, spec {x.digest}"


@main.command("fit-head")
@click.argument("head")
@dataset_option
@root_option
@store_option
@click.option("--out", type=click.Path(path_type=Path), help="[default: weights/<dataset>/<head>.safetensors]")
@set_option
@device_option
@verb
def fit_head(head: str, dataset: str, **options: Any) -> tuple[Any, Line]:
    """Fit HEAD, an entry of params.yaml or a head, on the training pairs from the store alone."""
    from matchkit.pipelines.fit_head import fit_head as run

    return run(dataset, head, **options), lambda x: f"{x.weights}: {x.validation:.1f} % on the validation pairs"


@main.command()
@dataset_option
@click.option("--head", required=True, help="A fitted head, or same-relative-position.")
@root_option
@store_option
@click.option("--weights", type=click.Path(path_type=Path), help="[default: weights/<dataset>/<head>.safetensors]")
@set_option
@device_option
@verb
def match(dataset: str, head: str, **options: Any) -> tuple[Any, Line]:
    """Match the keypoints of a split's pairs with a fitted head, into a predictions file."""
    from matchkit.pipelines.match import match as run

    return run(dataset, head, **options), lambda x: f"{x.predictions}: {x.keypoints:,} keypoints of {x.pairs:,} pairs"


@main.command()
@dataset_option
@click.option("--head", required=True, help="Whose predictions.")
@root_option
@click.option("--predictions", type=click.Path(path_type=Path), help="[default: predictions/<dataset>/<head>.npz]")
@set_option
@verb
def evaluate(dataset: str, head: str, **options: Any) -> tuple[Any, Line]:
    """Score predictions: PCK in original pixels, under a stated protocol."""
    from matchkit.pipelines.evaluate import evaluate as run

    def line(evaluated: Any) -> str:
        reference, averages = next(iter(evaluated.report.scores.items()))
        scores = ", ".join(f"PCK@{alpha} {value:.1f}" for alpha, value in averages["keypoint"].items())
        return f"{evaluated.path}: {scores} ({reference}, a keypoint)"

    return run(dataset, head, **options), line


@main.command()
@set_option
@verb
def report(settings: tuple[str, ...]) -> tuple[Any, Line]:
    """Put all reports into one table, reports/summary.md."""
    from matchkit.pipelines.report import report as run

    return run(settings), lambda x: f"{x.path}: {x.methods} methods on {x.datasets} datasets"


@main.command()
@dataset_option
@click.option("--backbone", default="sd-inversion", show_default=True, help="Entry of params.yaml, or a backbone.")
@root_option
@click.option("--weights", help="Folder or hub id of the backbone's weights. [default: the embedded ones]")
@set_option
@verb
def plan(dataset: str, backbone: str, **options: Any) -> tuple[Any, Line]:
    """Say what an extraction will compute and write, before it runs."""
    from matchkit.pipelines.plan import plan as run

    return (
        run(dataset, backbone, **options),
        lambda x: (
            f"{x.images:,} images x {x.calls_an_image} network calls; {x.bytes_an_image / 1e6:.2f} MB an image, "
            f"{x.bytes_in_all / 1e9:.2f} GB in all"
        ),
    )


@main.command("list")
@click.argument("kind", type=click.Choice(list(TABLES)))
@verb
def list_names(kind: str) -> tuple[Any, Line]:
    """List what there is of a KIND, this project's and third parties'."""
    import importlib

    module, attribute = TABLES[kind]
    table = getattr(importlib.import_module(module), attribute).table()
    return table, lambda names: "\n".join(f"{name:14} {place}" for name, place in names.items())


@main.group()
def datasets() -> None:
    """Make and inspect datasets."""


@datasets.command("make")
@click.argument("name", type=click.Choice(["toy"]))
@click.option("--root", type=click.Path(path_type=Path), default=Path("data/toy"), show_default=True)
@click.option("--replace", is_flag=True, help="Make a toy dataset of other settings anew.")
@set_option
@verb
def datasets_make(name: str, root: Path, settings: tuple[str, ...], *, replace: bool) -> tuple[Any, Line]:
    """Render the toy dataset."""
    from matchkit.pipelines.datasets import make

    return make(root, settings, replace=replace), _dataset_line


@datasets.command("info")
@click.argument("name")
@root_option
@verb
def datasets_info(name: str, root: Path | None) -> tuple[Any, Line]:
    """Read every annotation of a dataset and count it."""
    from matchkit.pipelines.datasets import count

    return count(name, root), _dataset_line


def _dataset_line(counts: Any) -> str:
    pairs = ", ".join(f"{number:,} {split}" for split, number in counts.pairs.items())
    return f"{counts.root}: {counts.images:,} images; pairs: {pairs}"


@main.group()
def cache() -> None:
    """Look after feature stores."""


@cache.command("info")
@click.argument("store", type=click.Path(path_type=Path))
@verb
def cache_info(store: Path) -> tuple[Any, Line]:
    """Say what a feature STORE holds and what made it."""
    from matchkit.pipelines.caches import info

    return (
        info(store),
        lambda x: (
            f"{store}: {x['images']:,} images, {len(x['spec']['layers'])} layers, "
            f"{len(x['spec']['timesteps'])} timesteps, {x['bytes'] / 1e9:.2f} GB, spec {x['digest']}"
        ),
    )


@cache.command("verify")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Withdraw damaged images, so that `extract` makes them again.")
@verb
def cache_verify(store: Path, *, repair: bool) -> tuple[Any, Line]:
    """Read a STORE back and compare every byte's checksum."""
    from matchkit.pipelines.caches import verify

    return verify(store, repair=repair), lambda x: f"{store}: {x['images']:,} images intact"

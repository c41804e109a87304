"""The command line. Every verb is one function of `matchkit.pipelines`, imported when the verb is called.

One final line on stdout (`--json`: one JSON object), everything else on stderr. Exit 0 done, 1 refused, 2 usage.
"""

from pathlib import Path
from typing import Any

import click

from matchkit import __version__
from matchkit.cli.cache import cache
from matchkit.cli.convert import convert
from matchkit.cli.datasets import datasets
from matchkit.cli.exemplars import conditions, evaluate_exemplars, pairs, translate
from matchkit.cli.extract import extract, plan
from matchkit.cli.generate import generate
from matchkit.cli.heads import import_head
from matchkit.cli.interchange import cache_export, cache_import
from matchkit.cli.verb import Line, dataset_option, device_option, root_option, set_option, store_option, verb

TABLES = {
    "backbones": ("matchkit.extract.backbones", "BACKBONES"),
    "datasets": ("matchkit.extract.datasets", "DATASETS"),
    "heads": ("matchkit.heads", "HEADS"),
    "matchers": ("matchkit.evaluate", "MATCHERS"),
    "presets": ("matchkit.pipelines.settings", "PRESETS"),
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Semantic correspondence from the frozen features of Stable Diffusion and DINOv2."""


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

    return run(dataset, head, **options), lambda x: f"{x.weights}: {x.validation:.1f} {x.unit} on the validation pairs"


@main.command()
@dataset_option
@click.option("--head", required=True, help="A fitted head, or same-relative-position.")
@root_option
@store_option
@click.option("--weights", type=click.Path(path_type=Path), help="[default: weights/<dataset>/<head>.safetensors]")
@click.option("--as", "called", metavar="NAME", help="What the predictions are called. [default: the head's name]")
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


@main.command("list")
@click.argument("kind", type=click.Choice(list(TABLES)))
@verb
def list_names(kind: str) -> tuple[Any, Line]:
    """List what there is of a KIND, this project's and third parties'."""
    import importlib

    module, attribute = TABLES[kind]
    table = getattr(importlib.import_module(module), attribute).table()
    width = max(map(len, table))
    return table, lambda names: "\n".join(f"{name:{width}}  {place}" for name, place in names.items())


for command in (datasets, extract, plan, conditions, pairs, translate, evaluate_exemplars, generate, import_head):
    main.add_command(command)
for command in (convert, cache_export, cache_import):
    cache.add_command(command)
main.add_command(cache)

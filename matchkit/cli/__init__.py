"""The command line. Every verb is one function of `matchkit.pipelines`, imported when the verb is called.

One final line on stdout (`--json`: one JSON object), everything else on stderr. Exit 0 done, 1 refused, 2 usage.
"""

from pathlib import Path
from typing import Any

import click

from matchkit import __version__
from matchkit.cli.cache import cache
from matchkit.cli.compare import compare
from matchkit.cli.convert import convert
from matchkit.cli.datasets import datasets
from matchkit.cli.evaluate import evaluate
from matchkit.cli.exemplars import conditions, evaluate_exemplars, pairs, translate
from matchkit.cli.extract import extract, plan
from matchkit.cli.generate import generate
from matchkit.cli.heads import import_head
from matchkit.cli.interchange import cache_export, cache_import
from matchkit.cli.match import match
from matchkit.cli.report import report
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
main.add_command(match)
main.add_command(evaluate)
main.add_command(compare)
main.add_command(report)
for command in (convert, cache_export, cache_import):
    cache.add_command(command)
main.add_command(cache)

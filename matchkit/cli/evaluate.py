"""`matchkit evaluate`: predictions scored under one protocol, or under all of them."""

from pathlib import Path
from typing import Any

import click

from matchkit.cli.verb import Line, dataset_option, root_option, set_option, verb


@click.command()
@dataset_option
@click.option("--head", required=True, help="Whose predictions.")
@click.option(
    "--protocol",
    metavar="NAME",
    default="",
    help="A protocol by name (matchkit list presets), or all. [default: the section evaluate of params.yaml]",
)
@root_option
@click.option("--predictions", type=click.Path(path_type=Path), help="[default: predictions/<dataset>/<head>.npz]")
@set_option
@verb
def evaluate(dataset: str, head: str, protocol: str, **options: Any) -> tuple[Any, Line]:
    """Score predictions: PCK under a stated protocol, or a table of it under all."""
    from matchkit.pipelines.evaluate import ALL, evaluate, evaluate_all

    if protocol == ALL:
        return evaluate_all(dataset, head, **options), _table
    return evaluate(dataset, head, protocol=protocol, **options), _line


def _line(evaluated: Any) -> str:
    report = evaluated.report
    reference, averages = next(iter(report.scores.items()))
    scores = ", ".join(f"PCK@{alpha} {value:.1f}" for alpha, value in averages[report.protocol.average].items())
    return f"{evaluated.path}: {scores} ({reference}, per {report.protocol.average})"


def _table(converted: Any) -> str:
    rows = converted.conversion.rows
    scored = sum(not row.missing for row in rows)
    return f"{converted.conversion.table()}\n{converted.markdown}: {scored} of {len(rows)} rows scored"

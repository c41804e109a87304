"""`matchkit extract` and `matchkit plan`: a dataset through a frozen backbone, and what that will cost."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from matchkit.cli.verb import Line, dataset_option, device_option, root_option, set_option, verb

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""


def _of_extraction(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `extract` and `plan` share."""
    for option in (
        device_option,
        set_option,
        click.option("--rotate", is_flag=True, help="Also copies turned by a quarter each way: @rot90 and @rot270."),
        click.option("--flip", is_flag=True, help="Also the images' mirrored copies, with ids that end in @flip."),
        click.option("--limit", type=click.IntRange(min=1), help="Only the first N images, for a trial."),
        click.option("--out", help="A path or a URL. [default: features/<dataset>/<backbone or prompt>.zarr]"),
        click.option(
            "--prompt",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="A learned prompt: what fit-head made of the head `prompt`, for the backbone sd-noise.",
        ),
        click.option("--weights", help="Folder or hub id of the backbone's weights. [default: the embedded ones]"),
        root_option,
        click.option(
            "--backbone", default="sd-inversion", show_default=True, help="Entry of params.yaml, preset or backbone."
        ),
        dataset_option,
    ):
        command = option(command)
    return command


def _in_poses(options: dict[str, Any]) -> dict[str, Any]:
    """The options with the poses that the flags stand for."""
    flip, rotate = options.pop("flip"), options.pop("rotate")
    return options | {"poses": ("hflip",) * flip + ("rot90", "rot270") * rotate}


@click.command()
@_of_extraction
@click.option("--force", is_flag=True, help="Begin on a disk without room for all of it.")
@click.option("--workers", type=click.IntRange(min=1), help="Compute in N processes of this machine.")
@click.option("--scheduler", help="Compute on a dask cluster, e.g. tcp://10.0.0.1:8786.")
@verb
def extract(dataset: str, backbone: str, **options: Any) -> tuple[Any, Line]:
    """Run a frozen backbone over a dataset's images, once, into a feature store."""
    from matchkit.pipelines.extract import extract as run

    try:
        result = run(dataset, backbone, **_in_poses(options))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    return result, lambda x: f"{x.store}: {x.done:,} images extracted, {x.present:,} were there, spec {x.digest}"


@click.command()
@_of_extraction
@click.option("--probe/--no-probe", default=True, help="Whether to compute a few images, for the time it takes.")
@verb
def plan(dataset: str, backbone: str, **options: Any) -> tuple[Any, Line]:
    """Say what an extraction will compute and write, before it runs."""
    from matchkit.pipelines.plan import plan as run

    return run(dataset, backbone, **_in_poses(options)), _plan


def _plan(x: Any) -> str:
    lines = [f"{x.store}: {x.missing:,} of {x.images:,} images are missing"]
    calls = f"{x.calls_an_image:,} network calls an image"
    if x.probe:
        calls = f"{x.calls_an_image:,} calls of {x.probe.network}, {x.probe.flops_an_image / 1e9:,.1f} GFLOP an image"
    free = "" if x.bytes_free is None else f"; {x.bytes_free / 1e9:,.2f} GB free"
    space = f"{x.bytes_an_image / 1e6:,.2f} MB an image, {x.bytes_in_all / 1e9:,.2f} GB in all{free}"
    return "\n".join([*lines, calls, space, *_time(x.probe)])


def _time(probe: Any) -> list[str]:
    if probe is None:
        return []
    return [
        f"{_duration(probe.seconds_in_all)} on {probe.device} at {1 / probe.seconds_an_image:,.2f} images/s "
        f"(a probe of {probe.images} images on this machine)"
    ]


def _duration(seconds: float) -> str:
    """Two units of a duration, the larger first."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"

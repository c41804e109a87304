"""Whether the embedded default is worth shipping, measured: `python -m matchkit.pipelines.train_tiny.gate`.

It reads the toy dataset (`matchkit datasets make toy`), fills the stores `features/toy/gate-*.zarr` where they are not
full yet, fits heads into `weights/toy/gate-*`, and writes a table with a verdict on each claim. Run again, it takes up
what is there.
"""

import logging
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType

import click
import torch

from matchkit.cache.store import FeatureStore
from matchkit.core.errors import MatchkitError
from matchkit.core.interfaces import ImageHead
from matchkit.core.records import Pair
from matchkit.evaluate.pck import hits
from matchkit.evaluate.position import same_relative_position
from matchkit.evaluate.predictions import Predictions
from matchkit.extract.backbones.tiny.folder import size_in_bytes
from matchkit.extract.datasets import open_dataset
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.extract import extract
from matchkit.pipelines.fit_head import fit_head
from matchkit.pipelines.match import match
from matchkit.pipelines.prepare import cores
from matchkit.pipelines.settings import features_path, weights_path
from matchkit.pipelines.train_tiny.fusion import Fusion
from matchkit.pipelines.train_tiny.verdicts import Row, Verdict, not_worse, table, verdict_table, well_above, zero_shot

DATASET = "toy"
OUT = Path("extract/backbones/tiny/weights/GATE.md")
ALPHA = 0.1
SEEDS = (0, 1)
"""Of the trained heads: first weights and order of the pairs."""
LARGEST = 12_000_000
"""Bytes of all weights."""
TIMED_IMAGES = 300
"""Of the extraction that is timed, at 11 timesteps and 12 layers."""
LONGEST = 120.0
"""Seconds that it may take on two cores."""

_DIFFUSION = ("backbone=sd-inversion", "batch=20")
_INVERSION = (*_DIFFUSION, "steps=20", "keys=[19,18,17,16,14]")  # the clean latent, and timesteps 0, 50, 100, 200
_TIMED = (*_DIFFUSION, "steps=11", "keys=[10,9,8,7,6,5,4,3,2,1,0]")
_BOTH = (
    "backbone=geoaware",
    "batch=20",
    "canvas=128",
    "crop=128",
    "dino_canvas=128",
)  # one crop: a toy picture is as large
_VIT = ("backbone=dinov2", "batch=20", "layers=[0,1,2,3,4,5]")
SINGLE: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "gate-diffusion": _INVERSION,
        "gate-diffusion-random": (*_INVERSION, "init=random"),
        "gate-vit": _VIT,
        "gate-vit-random": (*_VIT, "init=random"),
        "gate-hog-cell": ("backbone=hog", "batch=20", "block=1"),  # without the cells around it, as weak as colours
        "gate-hog": ("backbone=hog", "batch=20"),
    }
)
"""The stores whose single maps are gated, by name, with the settings of their extraction."""
FEATURES: Mapping[str, Sequence[str]] = MappingProxyType(
    {**SINGLE, "gate-both": _BOTH, "gate-both-random": (*_BOTH, "init=random")}
)
"""All stores."""
_log = logging.getLogger(__name__)
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Trained:
    """A head that learns, the features it is to learn from, the same features of random weights, and its settings."""

    head: str
    features: str
    control: str
    settings: Sequence[str]


# a head that learns is gated by one more entry here, and its features by one more in `FEATURES`
TRAINED = (
    Trained(
        head="aggregator",
        features="gate-diffusion",
        control="gate-diffusion-random",
        settings=("projection=128", "timesteps=[0,100,200]", "steps=160", "pairs=6", "validate_every=40"),
    ),
    Trained(
        head="post-processor",
        features="gate-both",
        control="gate-both-random",
        settings=(
            *("projection=128", "steps=400", "pairs=6", "validate_every=100"),
            *("lr=3e-3", "schedule=one-cycle"),
        ),
    ),
)


class Gate:
    """Measures the methods on the test pairs of the toy dataset."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._data = open_dataset(DATASET, root)
        self.pairs: Sequence[Pair] = [pair for pair in self._data.pairs("test") if len(pair.source_points)]

    def fill(self) -> None:
        """Extracts what the stores do not hold yet."""
        for name, settings in FEATURES.items():
            _log.info("extracting %s", name)
            extract(DATASET, name, root=self._root, settings=settings, device="cpu")

    def position(self) -> Row:
        """The same relative position, given the target's box."""
        found = {pair.id: same_relative_position(pair) for pair in self.pairs}
        return self._row("same relative position", "", Predictions(found, {}))

    def raw(self, features: str) -> Row:
        """The best single map of a store."""
        name = _head_name("raw-layer", features)
        self._fit(name, ["head=raw-layer", f"features={features}"])
        config = HeadWeights.load(weights_path(DATASET, name)).config
        step = f" at t {config['timestep']}" if "diffusion" in features else ""
        return self._matched(name, f"{_short(features)}, best map", f"{config['layer']}{step}")

    def trained(self, told: Trained, features: str, *, seed: int) -> Row:
        """A head fitted on a store."""
        name = f"{_head_name(told.head, features)}-seed{seed}"
        settings = [f"head={told.head}", f"features={features}", f"seed={seed}", f"order_seed={seed}", *told.settings]
        self._fit(name, settings)
        return self._matched(name, f"{told.head} on {_short(features)}, seed {seed}", "")

    def fused(self, first: str, second: str) -> Row:
        """The best single maps of two stores, joined."""
        parts = (self._part(first), self._part(second))
        validation = [pair for pair in self._data.pairs("val") if len(pair.source_points)]
        found = Fusion(parts, self._data).choose(validation, self.pairs, alpha=ALPHA)
        name = " and ".join(_short(features) for features in (first, second))
        return self._row(f"{name}, fused", f"weights {found.weight:.1f}, {1 - found.weight:.1f}", found.predictions)

    def _part(self, features: str) -> tuple[ImageHead, FeatureStore]:
        kept = HeadWeights.load(weights_path(DATASET, _head_name("raw-layer", features)))
        head = kept.build(device=CPU)
        assert isinstance(head, ImageHead)
        return head, FeatureStore.open(features_path(DATASET, features), kept.spec)

    def _fit(self, name: str, settings: Sequence[str]) -> None:
        _log.info("fitting %s", name)
        fit_head(DATASET, name, root=self._root, settings=settings, device="cpu")

    def _matched(self, name: str, shown: str, chosen: str) -> Row:
        settings = ["matcher=nearest", "upsample=8", "split=test"]
        found = match(DATASET, name, root=self._root, settings=settings, device="cpu")
        return self._row(shown, chosen, Predictions.load(found.predictions))

    def _row(self, name: str, chosen: str, found: Predictions) -> Row:
        told = hits(self.pairs, self._data.images, found, alpha=ALPHA, reference="box")
        return Row.of(name, chosen, told, self.pairs)


def _short(features: str) -> str:
    return features.removeprefix("gate-")


def _head_name(head: str, features: str) -> str:
    return f"gate-{head}-on-{_short(features)}"


def measure(gate: Gate, heads: Sequence[Trained]) -> tuple[list[Row], list[Verdict]]:
    """All rows, and the verdicts that need nothing else."""
    raw = {_short(features): gate.raw(features) for features in SINGLE}
    fused = gate.fused("gate-diffusion", "gate-vit")
    position = gate.position()
    rows = [position, *raw.values(), fused]
    verdicts = zero_shot(raw | {"position": position, "fused": fused})
    verdicts.append(not_worse(fused, [raw["diffusion"], raw["vit"]], gate.pairs))
    for head in heads:
        trained, control = (
            [gate.trained(head, features, seed=seed) for seed in SEEDS] for features in (head.features, head.control)
        )
        rows += [*control, *trained]
        verdicts += [well_above(trained, control), well_above(trained, [position])]
    return rows, verdicts


def weigh() -> Verdict:
    """Whether all weights together are small enough to ship."""
    with as_file(files("matchkit.extract.backbones.tiny") / "weights") as folder:
        size = size_in_bytes(folder)
    return Verdict(f"all weights within {LARGEST / 1e6:g} MB", size <= LARGEST, f"{size / 1e6:.2f} MB")


def time_extraction(root: Path | None, *, wanted: bool) -> Verdict:
    """Whether an extraction of the published kind is over soon; only where that is wanted, on a machine at rest."""
    claim = f"{TIMED_IMAGES} images x 11 timesteps x 12 layers within {LONGEST:g} s on {cores()} cores"
    if not wanted:
        return Verdict(claim, None, "")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        out = Path(folder) / "timed.zarr"
        extract(DATASET, "gate-timed", root=root, out=out, settings=_TIMED, limit=TIMED_IMAGES, device="cpu")
        seconds = time.perf_counter() - start
    return Verdict(claim, seconds <= LONGEST, f"{seconds:.0f} s")


@click.command()
@click.option("--root", type=click.Path(path_type=Path), help="The toy dataset's tree.  [default: data/toy]")
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True, help="The file to write.")
@click.option(
    "--head", "names", multiple=True, type=click.Choice([told.head for told in TRAINED]), help="Only these heads."
)
@click.option("--untrained", is_flag=True, help="Leave the trained heads out, which take most of the time.")
@click.option("--timed", is_flag=True, help="Also time an extraction; let nothing else run meanwhile.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Cores that fits may use.")
def main(*, root: Path | None, out: Path, names: tuple[str, ...], untrained: bool, timed: bool, threads: int) -> None:
    """Measures the embedded default on the toy dataset's test pairs, and says which claims hold."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(threads)
    heads = [] if untrained else [told for told in TRAINED if not names or told.head in names]
    try:
        gate = Gate(root)
        gate.fill()
        rows, verdicts = measure(gate, heads)
        verdicts += [time_extraction(root, wanted=timed), weigh()]
    except MatchkitError as error:
        raise click.ClickException(str(error)) from error
    text = f"{table(rows, gate.pairs, alpha=ALPHA)}\n\n{verdict_table(verdicts)}\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    click.echo(text)
    if any(told.holds is False for told in verdicts):
        raise click.ClickException(f"the embedded default does not pass; see {out}")


if __name__ == "__main__":
    main()

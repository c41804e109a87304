"""Contact sheets of heads between two domains: conditions, exemplars, warps and what translators make of them.

    python -m matchkit.pipelines.exemplar_sheet --dataset toy-views --head cross-edge --translator spade --out sheet.jpg

The targets are spread over the split, none picked. What should come out stands last, where the dataset knows it. A
column of Stable Diffusion, which is not fitted, has settings of `matchkit translate --translator sd`: --sd strength=0.3
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from PIL import Image

from matchkit.cache.exemplars import Domains
from matchkit.core.conditions import KnowsTruth
from matchkit.core.device import choose_device
from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import LATENT, PHOTO
from matchkit.core.records import ImageRecord
from matchkit.extract.datasets import open_dataset
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.translator import Translator
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.evaluate_exemplars import decoder_for, exemplar_pairs
from matchkit.pipelines.exemplar_truth import Frame, PairTruth
from matchkit.pipelines.fit_exemplars import fitted_on, open_stores
from matchkit.pipelines.picture_sheet import Picture, as_bytes, condition_picture, contact_sheet, heat
from matchkit.pipelines.settings import weights_path
from matchkit.pipelines.translate import SD, translate
from matchkit.pipelines.translating import Translating, from_signed

MEMORY_GB = 0.2


class Shown:
    """A fitted head and the stores that it was fitted on, ready to show targets.

    Raises:
        ConfigError: it is no head between two domains.
    """

    def __init__(self, dataset: str, name: str, *, device: torch.device) -> None:
        kept = HeadWeights.load(weights_path(dataset, name))
        head = kept.build(device=device)
        if not isinstance(head, CrossDomain | Translator):
            raise ConfigError(f"head '{kept.head}' of {name} does not translate")
        on = fitted_on(kept)
        stores = open_stores(dataset, on, wanted=head.payloads)
        self.kept, self.grid, self.spec = kept, head.grid, stores.condition_spec
        self.domains: Domains = stores.domains(head, payloads=head.payloads, memory_gb=MEMORY_GB, device=device)
        decoder = decoder_for(dataset, on.latents, device=device) if LATENT in head.payloads else None
        self.translating = Translating(head, latents=decoder, device=device)

    def of_matcher(self, target: str, exemplar: str) -> list[Picture]:
        """The condition, the exemplar, the warp and the confidence."""
        targets, exemplars = (self.domains.photographs([name]) for name in (target, exemplar))
        made = self.translating(targets.condition, exemplars)
        return [
            condition_picture(targets.condition[0], self.spec),
            as_bytes(from_signed(exemplars.payloads[PHOTO])[0]),
            as_bytes(made.warp[0]),
            heat(made.confidence[0]),
        ]

    def of_translator(self, target: str, exemplar: str) -> Picture:
        """The picture."""
        targets, exemplars = (self.domains.photographs([name]) for name in (target, exemplar))
        return as_bytes(self.translating(targets.condition, exemplars).picture[0])


def sheet(
    dataset: str,
    heads: Sequence[str],
    translators: Sequence[str],
    *,
    diffusions: Sequence[str] = (),
    root: Path | None = None,
    split: str = "test",
    count: int = 6,
    side: int = 128,
    device: str = "auto",
) -> Image.Image:
    """Rows of targets for each head in turn, with the translators' pictures beside.

    Args:
        dataset: whose images are shown.
        heads: cross-domain heads.
        translators: fitted entries.
        diffusions: settings of Stable Diffusion, apart by blanks; a column each.
        root: of the dataset's tree.
        split: of which the targets are.
        count: targets a head.
        side: of a picture in pixels.
        device: on which is computed.

    Raises:
        MatchkitError: a head or store that is not there.
    """
    chosen = choose_device(device)
    data = open_dataset(dataset, root)
    painters = [Shown(dataset, name, device=chosen) for name in translators]
    pairs = exemplar_pairs(dataset, split, rank="easy", limit=count)
    rows, captions = [], []
    for name in heads:
        shown = Shown(dataset, name, device=chosen)
        spec = shown.domains.maps.store.spec
        frame = Frame(spec.input_size, spec.fit)
        for target, exemplar in pairs:
            wanted = _wanted(data, data.images[target], data.images[exemplar], frame=frame, side=side)
            painted = [painter.of_translator(target, exemplar) for painter in painters]
            painted += [_diffused(dataset, name, target, exemplar, told, root=root) for told in diffusions]
            rows.append([*shown.of_matcher(target, exemplar), *painted, wanted])
            captions.append(f"{name}: {target} after {exemplar}")
    columns = [
        "condition",
        "exemplar",
        "warp",
        "confidence",
        *translators,
        *(f"sd {told}" for told in diffusions),
        "should be",
    ]
    return contact_sheet(rows, columns=columns, captions=captions, side=side)


def _diffused(dataset: str, head: str, target: str, exemplar: str, told: str, *, root: Path | None) -> Picture:
    """What Stable Diffusion makes of a warp."""
    with TemporaryDirectory() as folder:
        made = translate(
            target,
            exemplar,
            head,
            dataset=dataset,
            root=root,
            translator=SD,
            out=Path(folder) / "sheet.png",
            settings=told.split(),
        )
        with Image.open(made.picture) as picture:
            return np.asarray(picture.convert("RGB"))


def _wanted(data: object, target: ImageRecord, exemplar: ImageRecord, *, frame: Frame, side: int) -> Picture:
    """What should come out; white where that is not known."""
    knows = data if isinstance(data, KnowsTruth) else None
    picture = PairTruth(knows, target, exemplar, frame=frame, grid=(1, 1)).picture(side)
    if picture is None:
        return np.full((side, side, 3), 255, np.uint8)
    return np.asarray(np.rint(picture * 255), np.uint8)


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--dataset", required=True)
@click.option("--head", "heads", multiple=True, required=True, help="A cross-domain head. Repeatable.")
@click.option("--translator", "translators", multiple=True, help="A translator of the same condition. Repeatable.")
@click.option("--sd", "diffusions", multiple=True, help="Settings of Stable Diffusion, apart by blanks. Repeatable.")
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--split", default="test", show_default=True)
@click.option("--count", default=6, show_default=True, help="Targets a head.")
@click.option("--side", default=128, show_default=True, help="Pixels of a picture.")
@click.option("--device", default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    dataset: str,
    heads: tuple[str, ...],
    translators: tuple[str, ...],
    diffusions: tuple[str, ...],
    root: Path | None,
    split: str,
    count: int,
    side: int,
    device: str,
    out: Path,
) -> None:
    """Makes a sheet from the command line."""
    made = sheet(
        dataset,
        heads,
        translators,
        diffusions=diffusions,
        root=root,
        split=split,
        count=count,
        side=side,
        device=device,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    made.save(out, quality=88)
    click.echo(f"{out}: {made.width} x {made.height} pixels")


if __name__ == "__main__":
    main()

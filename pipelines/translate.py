"""One condition translated after one exemplar, with all that led to the picture side by side."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image

from matchkit.core.device import choose_device
from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.exemplar_batches import LATENT
from matchkit.core.params import build, divide
from matchkit.extract.backbones.latent_decoder import LatentDecoder
from matchkit.extract.backbones.sd_latents import SDLatentsParams
from matchkit.extract.backbones.sd_translation import SDTranslationParams
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.translator import Translator
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.exemplar_inputs import ExemplarInputs, ShownCondition, ShownExemplar
from matchkit.pipelines.fit_exemplars import EXEMPLAR_HEADS
from matchkit.pipelines.picture_sheet import Picture, as_bytes, condition_picture, contact_sheet, heat
from matchkit.pipelines.prepare import Prepared
from matchkit.pipelines.sd_translator import SDTranslator
from matchkit.pipelines.settings import told, weights_path
from matchkit.pipelines.translating import Translating, Translation

WARP, SD = "warp", "sd"
"""The translators that are no fitted entries: the warped exemplar as it is, and Stable Diffusion."""
FOLDER = Path("translated")
TILE = 256
"""Pixels of a picture's side on the sheet."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TranslateParams:
    """How one condition is translated; those of the translator `sd` stand beside.

    Attributes:
        translator: `warp`, `sd`, or the entry of a fitted translator; "" is what the head itself does.
        latent: the entry of a fitted translator of latents, for `sd` with `fill: latent`.
        canvas: (width, height) of the photograph that the joints in a pose's file belong to; None takes the exemplar's.
        category: of what the files show, for prompts that name it.
        exemplar_condition: the exemplar's own condition, a file or an id, for a head that sees it; "" is that of the
            exemplar's id.
    """

    translator: str = ""
    latent: str = ""
    canvas: tuple[int, int] | None = None
    category: str = ""
    exemplar_condition: str = ""


@dataclass(frozen=True, slots=True)
class Translated:
    """What a translation wrote.

    Attributes:
        sheet: all of it side by side.
        warp: the warped exemplar.
        picture: the translation.
        translator: whose it is.
        confidence: of the match, the mean over the cells.
        returned: the share of the cells whose match leads back.
    """

    sheet: Path
    warp: Path
    picture: Path
    translator: str
    confidence: float
    returned: float


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A fitted head with the file that it was kept in."""

    kept: HeadWeights
    head: CrossDomain | Translator

    @property
    def matcher(self) -> CrossDomain:
        return self.head.matcher if isinstance(self.head, Translator) else self.head

    @property
    def paints(self) -> str:
        return self.head.params.paints if isinstance(self.head, Translator) else ""


def translate(
    condition: str,
    exemplar: str,
    head: str,
    *,
    dataset: str | None = None,
    root: Path | None = None,
    weights: Path | None = None,
    translator: str | None = None,
    out: Path | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
) -> Translated:
    """Writes the condition, the exemplar, what is warped of it, how sure that is, and the translation.

    Args:
        condition: a file of the head's kind, or the id of an image of the dataset.
        exemplar: a photograph's file, or the id of an image.
        head: the name of a fitted head.
        dataset: whose heads and images are meant; without it, that of the one head of the name.
        root: the dataset's tree.
        weights: the head's file.
        translator: `warp`, `sd` or a fitted translator's entry.
        out: the sheet, a PNG; the warped exemplar and the translation lie beside it, `OUT.warp.png`, `OUT.picture.png`.
        settings: over `params.yaml`.
        device: on which is computed.

    Raises:
        MatchkitError: a head, an entry, a file or an image that is not there, or that does not go with the others.
    """
    if out is not None and out.suffix.lower() != ".png":
        raise ConfigError(f"--out takes the name of a .png, not {out}")
    asked, chosen = told("translate", settings), choose_device(device)
    own, of_sd = divide(asked.values, (TranslateParams, SDTranslationParams), where=asked.where)
    params = build(TranslateParams, own, where=asked.where)
    name = params.translator if translator is None else translator
    fitted = _load(weights or _weights(head, dataset), chosen)
    where = dataset or str(fitted.kept.fit["dataset"])
    fitted = _that_translates(fitted, name, dataset=where, device=chosen)
    inputs = ExemplarInputs(
        fitted.kept, fitted.matcher.params, dataset=where, root=root, category=params.category, device=str(chosen)
    )
    shown = inputs.condition(condition, canvas=params.canvas or inputs.size(exemplar))
    own_condition = _own_condition(inputs, exemplar, params, fitted.matcher)
    theirs = inputs.exemplar(exemplar, own=own_condition, latent=name == SD or fitted.paints == LATENT)
    decoder = _decoder(inputs.prepared("latents"), chosen) if fitted.paints == LATENT else None
    given = shown.given(fitted.matcher.params.side)
    found = Translating(fitted.head, latents=decoder, device=chosen)(given, theirs.photographs)
    drawn = condition_picture(shown.given(theirs.picture.shape[3])[0], shown.spec)
    if name == SD:
        values = _of_latents(inputs.prepared("latents")) | of_sd
        of_diffusion = build(SDTranslationParams, values, where=asked.where)
        filling = _filling(of_diffusion, params.latent, fitted, dataset=where, device=chosen)
        spec, matcher = fitted.kept.spec, fitted.matcher
        diffusing = SDTranslator(of_diffusion, matcher, spec=spec, filling=filling, device=chosen)
        found = replace(found, picture=diffusing(given, theirs, found.match, drawn=_as_pixels(drawn)))
    called = name or (WARP if isinstance(fitted.head, CrossDomain) else head)
    stem = "--".join(one.replace("/", "-") for one in (shown.id, *theirs.photographs.ids))
    sheet = out or FOLDER / where / (head if called == head else f"{head}-{called}") / f"{stem}.png"
    return _write(sheet, found, drawn=drawn, exemplar=theirs, translator=called)


def _weights(head: str, dataset: str | None) -> Path:
    """The file of the head of a name, of the dataset or of the only one that has it."""
    if dataset is not None:
        return weights_path(dataset, head)
    found = sorted(Path().glob(str(weights_path("*", head))))
    if len(found) != 1:
        there = f"there are: {', '.join(map(str, found))}" if found else "there is none. Run: matchkit fit-head"
        raise ConfigError(f"which head '{head}' is meant? Say --dataset or --weights; {there}")
    return found[0]


def _load(path: Path, device: torch.device) -> _Fitted:
    """The head in a file.

    Raises:
        WeightsError: it is none between two domains.
    """
    kept = HeadWeights.load(path)
    if kept.head not in EXEMPLAR_HEADS:
        raise WeightsError(
            f"{path} holds the head '{kept.head}', which translates nothing. Fit one of: {', '.join(EXEMPLAR_HEADS)}"
        )
    head = kept.build(device=device)
    assert isinstance(head, CrossDomain | Translator)
    return _Fitted(kept, head)


def _that_translates(fitted: _Fitted, name: str, *, dataset: str, device: torch.device) -> _Fitted:
    """The head that the translator of a name needs."""
    if name in (WARP, SD):
        return _Fitted(fitted.kept, fitted.matcher)
    return _painter(fitted, name, dataset=dataset, device=device) if name else fitted


def _painter(fitted: _Fitted, name: str, *, dataset: str, device: torch.device) -> _Fitted:
    """The fitted translator of an entry, which goes with the head.

    Raises:
        ConfigError: it was fitted from other stores.
        WeightsError: the entry is none of a translator, or not fitted.
    """
    path = weights_path(dataset, name)
    painter = _load(path, device)
    if not isinstance(painter.head, Translator):
        raise WeightsError(
            f"{path} holds the head '{painter.kept.head}', which paints nothing. Take --translator {WARP}"
        )
    for store in ("dataset", "features", "conditions"):
        one, other = (str(of.kept.fit[store]) for of in (fitted, painter))
        if one != other:
            raise ConfigError(
                f"{path} was fitted with {store} {other}, and the head with {one}: they do not go together"
            )
    ours, theirs = ({of.kept.fit.get(key) for key in ("identity", "start")} for of in (fitted, painter))
    if not (ours & theirs) - {None, ""}:
        log.warning("%s was fitted with another head than the one that is told: it matches by its own", path)
    return painter


def _filling(
    params: SDTranslationParams, name: str, fitted: _Fitted, *, dataset: str, device: torch.device
) -> Translator | None:
    """The translator of latents for cells whose match is not trusted; None where noise is wanted there."""
    if params.fill != LATENT:
        return None
    if not name:
        raise ConfigError("fill=latent takes the latents of a fitted translator: name it with --set latent=ENTRY")
    painter = _painter(fitted, name, dataset=dataset, device=device)
    if painter.paints != LATENT:
        raise ConfigError(f"the translator '{name}' paints a {painter.paints}: fit one with --set paints=latent")
    theirs, ours = (str(of.kept.fit["latents"]) for of in (painter, fitted))
    if theirs != ours:
        raise ConfigError(
            f"the translator '{name}' paints latents of '{theirs}', and the pipeline denoises those of '{ours}': fit "
            f"one with --set paints=latent --set latents={ours}"
        )
    assert isinstance(painter.head, Translator)
    return painter.head


def _own_condition(
    inputs: ExemplarInputs, exemplar: str, params: TranslateParams, matcher: CrossDomain
) -> ShownCondition | None:
    """The exemplar's own condition, where the head sees it."""
    if matcher.params.adapters != "paper" or matcher.params.mix != "own":
        return None
    if not params.exemplar_condition and Path(exemplar).is_file():
        raise ConfigError(
            "this head sees the exemplar's own condition: give it with --set exemplar_condition=FILE, or take an "
            "exemplar of the dataset by its id"
        )
    return inputs.condition(params.exemplar_condition or exemplar, canvas=params.canvas or inputs.size(exemplar))


def _latents_params(prepared: Prepared) -> SDLatentsParams:
    if prepared.name != "sd-latents":
        raise ConfigError(f"the head's latents are features of '{prepared.name}', which no VAE decodes")
    return build(SDLatentsParams, prepared.values, where="sd-latents")


def _of_latents(prepared: Prepared) -> dict[str, Any]:
    """What the pipeline is, where nothing else is told: that of the latents."""
    return {"weights": _latents_params(prepared).weights, "input_size": prepared.backbone.spec.input_size[0]}


def _decoder(prepared: Prepared, device: torch.device) -> LatentDecoder:
    """The VAE of the latents."""
    params = _latents_params(prepared)
    return LatentDecoder(params.weights, device=device, precision=params.precision)


def _as_pixels(picture: Picture) -> Float[torch.Tensor, "1 3 h w"]:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def _write(sheet: Path, found: Translation, *, drawn: Picture, exemplar: ShownExemplar, translator: str) -> Translated:
    pictures = {
        "condition": drawn,
        "exemplar": as_bytes(exemplar.picture[0]),
        "warped exemplar": as_bytes(found.warp[0]),
        "confidence, 0 to 1": heat(found.confidence[0]),
        f"translation: {translator}": as_bytes(found.picture[0]),
    }
    sheet.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet([list(pictures.values())], columns=list(pictures), side=TILE).save(sheet)
    warp, picture = sheet.with_suffix(".warp.png"), sheet.with_suffix(".picture.png")
    Image.fromarray(as_bytes(found.warp[0])).save(warp)
    Image.fromarray(as_bytes(found.picture[0])).save(picture)
    return Translated(
        sheet,
        warp,
        picture,
        translator,
        confidence=float(found.confidence.mean()),
        returned=float(found.match.returned().float().mean()),
    )

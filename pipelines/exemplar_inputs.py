"""From files, or ids of a dataset, to what a head between two domains is given: one condition and one exemplar."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from matchkit.cache.exemplars import as_given
from matchkit.cache.store import FeatureStore
from matchkit.core.conditions import ConditionedDataset, ConditionSpec, condition_spec_of
from matchkit.core.errors import ConfigError, DatasetError, nearest_name
from matchkit.core.exemplar_batches import LATENT, PHOTO, Photographs
from matchkit.core.geometry import Fit, place
from matchkit.core.params import build
from matchkit.core.poses import pose_of, posed, unposed_id
from matchkit.core.records import ImageRecord
from matchkit.core.spec import FeatureSpec
from matchkit.extract.conditions.edges import drawing_spec, render_drawing
from matchkit.extract.conditions.masks import render_mask
from matchkit.extract.conditions.openpose import read_json_pose, read_text_pose
from matchkit.extract.conditions.pictures import read_grey, read_indices
from matchkit.extract.conditions.place import place_condition
from matchkit.extract.conditions.pose import pose_spec, render_pose, zoom_of
from matchkit.extract.images import upright_size
from matchkit.extract.run import inputs
from matchkit.heads.cross_domain.settings import CrossDomainParams
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.conditions import ConditionsParams, open_conditioned
from matchkit.pipelines.prepare import Prepared, prepare
from matchkit.pipelines.settings import features_path, told_for

CANDIDATE, SUBSET = "_candidate.txt", "_subset.txt"
Values = Float[np.ndarray, "c h w"]


@dataclass(frozen=True, slots=True)
class ShownCondition:
    """A condition as it was read.

    Attributes:
        id: names it.
        values: in the image frame.
        spec: what it is made of.
        fit: how it is put into an input, as the photographs are.
    """

    id: str
    values: Values
    spec: ConditionSpec
    fit: Fit

    def given(self, side: int) -> Float[torch.Tensor, "1 c h w"]:
        """In an input of (side, side) pixels, as a network is given it."""
        placement = place((self.values.shape[2], self.values.shape[1]), (side, side), fit=self.fit)
        return as_given(torch.from_numpy(place_condition(self.values, self.spec, placement))[None], self.spec)


@dataclass(frozen=True, slots=True)
class ShownExemplar:
    """An exemplar through the backbones of a head.

    Attributes:
        photographs: the one.
        picture: the photograph in [0, 1], in the input of which the payload is.
    """

    photographs: Photographs
    picture: Float[torch.Tensor, "1 3 h w"]


@dataclass(frozen=True, slots=True)
class _Photo:
    """A photograph, and whether it comes as a file: then it is taken upright, as a viewer shows it."""

    record: ImageRecord
    is_file: bool


class ExemplarInputs:
    """What a fitted head is given, from the entries of `params.yaml` from whose stores it was fitted.

    Args:
        kept: the head.
        matcher: the parameters of the cross-domain head in it.
        dataset: of which ids are.
        root: of that dataset's tree.
        category: of what files show, the first part of their ids.
        device: on which backbones compute.
    """

    def __init__(
        self,
        kept: HeadWeights,
        matcher: CrossDomainParams,
        *,
        dataset: str,
        root: Path | None,
        category: str,
        device: str,
    ) -> None:
        self._kept, self._matcher = kept, matcher
        self._dataset, self._root, self._category, self._device = dataset, root, category, device
        self._fitted = str(kept.fit["dataset"])
        self._prepared: dict[str, Prepared] = {}

    @cached_property
    def _data(self) -> ConditionedDataset:
        return open_conditioned(self._dataset, self._root)

    @cached_property
    def _conditions(self) -> tuple[ConditionSpec, Fit]:
        """What the head's conditions are made of, and how they are put into an input: by the store, or the dataset.

        Raises:
            ConfigError: they are not what the head takes.
            DatasetError: there is neither.
        """
        entry = str(self._kept.fit["conditions"])
        path = features_path(self._fitted, entry)
        if path.exists():
            store = FeatureStore.open(path).spec
            spec, fit = condition_spec_of(store), store.fit
        else:
            data = self._data if self._dataset == self._fitted else open_conditioned(self._fitted, None)
            asked = told_for("conditions", self._fitted, entry, ())
            fit = build(ConditionsParams, asked.values, where=asked.where).fit
            spec = data.condition_spec(self._matcher.kind)
        if (spec.kind, spec.width) != (self._matcher.kind, self._matcher.channels):
            raise ConfigError(
                f"the head takes a {self._matcher.kind} of {self._matcher.channels} channels, and {path} is of a "
                f"{spec.kind} of {spec.width}. Fit it again: matchkit fit-head"
            )
        return spec, fit

    def condition(self, told: str, *, canvas: tuple[int, int]) -> ShownCondition:
        """The condition in a file of the head's kind, or that of an image of the dataset.

        Args:
            told: a file, or an id.
            canvas: (width, height) of the photograph to which the joints of a pose's file belong.

        Raises:
            ConfigError: the head's conditions cannot be read from a file, or the dataset's are others.
            DatasetError: neither file nor id, or a file that is malformed.
        """
        (spec, fit), path = self._conditions, Path(told)
        if path.is_file():
            name = path.stem.removesuffix(CANDIDATE.removesuffix(path.suffix))
            return ShownCondition(self._id(name), _read(path, spec, canvas=canvas), spec, fit)
        self._require_id(told)
        own = self._data.condition_spec(spec.kind)
        if own != spec:
            raise ConfigError(
                f"the {spec.kind} conditions of dataset '{self._dataset}' are others than those of '{self._fitted}', "
                f"on which the head was fitted: {own.width} channels, not {spec.width}, or of other names"
            )
        return ShownCondition(told, self._data.condition(told, spec.kind), spec, fit)

    def size(self, told: str) -> tuple[int, int]:
        """(width, height) of a photograph in its file's pixels.

        Raises:
            DatasetError: neither file nor id.
        """
        return self._photo(told).record.size

    def exemplar(self, told: str, *, own: ShownCondition | None, latent: bool) -> ShownExemplar:
        """A photograph through the backbones that the head was fitted on.

        Args:
            told: a file, or an id of the dataset.
            own: its own condition, for a head that sees it.
            latent: whether its latent is wanted.

        Raises:
            SpecMismatchError: an entry of `params.yaml` gives other features now than those the head was fitted on.
            DatasetError: neither file nor id, or a photograph that cannot be decoded.
        """
        photo, spec = self._photo(told), self._kept.spec
        maps = _maps(self.prepared("features"), photo)
        timestep = self._matcher.timestep
        row = 0 if timestep is None else spec.timesteps.index(timestep)
        photos = self.prepared("photos")
        payloads = {PHOTO: _payload(photos, photo)}
        if latent:
            payloads[LATENT] = _payload(self.prepared("latents"), photo)
        condition = torch.zeros(1, 0, 1, 1) if own is None else own.given(self._matcher.side)
        return ShownExemplar(
            Photographs((photo.record.id,), {name: held[:, [row]] for name, held in maps.items()}, condition, payloads),
            _inputs(photos, photo)[0],
        )

    def prepared(self, what: str) -> Prepared:
        """The backbone of the head's `features`, `photos` or `latents`, made once.

        Raises:
            SpecMismatchError: it is not the one that the head was fitted on.
        """
        if what not in self._prepared:
            entry = str(self._kept.fit[what])
            made = prepare(self._fitted, entry, weights=None, settings=(), device=self._device)
            path = features_path(self._fitted, entry)
            if what == "features":
                self._require(self._kept.spec, made, entry)
            elif path.exists():
                self._require(FeatureStore.open(path).spec, made, entry)
            self._prepared[what] = made
        return self._prepared[what]

    def _require(self, wanted: FeatureSpec, made: Prepared, entry: str) -> None:
        wanted.require(
            made.backbone.spec,
            where=f"extract.{self._fitted}.{entry} of params.yaml",
            remedy="The head was fitted on the former: give the entry its parameters back, or fit the head again with "
            f"matchkit extract --dataset {self._fitted} --backbone {entry} and matchkit fit-head",
        )

    def _id(self, name: str) -> str:
        plain = unposed_id(name)
        return f"{self._category}/{plain}" if self._category else plain

    def _photo(self, told: str) -> _Photo:
        path = Path(told)
        if path.is_file():
            return _Photo(ImageRecord(self._id(path.stem), path, upright_size(path)), is_file=True)
        self._require_id(told)
        return _Photo(posed(self._data.images[unposed_id(told)], pose_of(told)), is_file=False)

    def _require_id(self, told: str) -> None:
        try:
            known = self._data.images
        except DatasetError as error:
            raise DatasetError(f"'{told}' is no file, and whether it is an image cannot be told: {error}") from error
        if unposed_id(told) not in known:
            hint = nearest_name(told, known)
            raise DatasetError(f"'{told}' is neither a file nor an image of dataset '{self._dataset}'.{hint}")


def _read(path: Path, spec: ConditionSpec, *, canvas: tuple[int, int]) -> Values:
    """The condition that a file holds.

    Raises:
        ConfigError: conditions of the spec are made of more than a file tells.
        DatasetError: the file is malformed.
    """
    if spec.kind == "mask":
        return render_mask(read_indices(path), spec, where=path)
    if spec == drawing_spec():
        return render_drawing(read_grey(path))
    if spec == pose_spec():
        return render_pose(_joints(path, canvas), size=canvas, zoom=zoom_of(canvas))
    raise ConfigError(
        f"{path}: this head's {spec.kind} has {spec.width} channels of its own dataset ({', '.join(spec.channels[:5])} "
        "...), which no file tells. Give the id of an image instead, with --dataset"
    )


def _joints(path: Path, size: tuple[int, int]) -> Float[np.ndarray, "18 2"]:
    if path.suffix == ".json":
        return read_json_pose(path, size=size)
    if not path.name.endswith(CANDIDATE):
        raise DatasetError(f"{path} is no pose of OpenPose: give a .json, or a *{CANDIDATE} beside its *{SUBSET}")
    return read_text_pose(path, path.with_name(path.name.removesuffix(CANDIDATE) + SUBSET), size=size)


def _inputs(prepared: Prepared, photo: _Photo) -> list[Float[torch.Tensor, "1 3 _ _"]]:
    """A photograph on each canvas of a backbone, as an extraction puts it there."""
    canvases = prepared.backbone.canvases
    if photo.is_file:
        canvases = tuple(replace(canvas, oriented=True) for canvas in canvases)
    return [placed[None] for placed in inputs(photo.record, canvases)]


def _maps(prepared: Prepared, photo: _Photo) -> dict[str, Float[torch.Tensor, "1 t _ _ _"]]:
    image, *others = _inputs(prepared, photo)
    return prepared.backbone(image, [photo.record.id], *others)


def _payload(prepared: Prepared, photo: _Photo) -> Float[torch.Tensor, "1 c h w"]:
    """The first timestep of the first layer, as it is read from a store of it."""
    return _maps(prepared, photo)[prepared.backbone.spec.layers[0].name][:, 0].float()

"""What matches one's own photographs: a fitted head with the backbone it was fitted on, or a fusion without fitting."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from matchkit.core.device import choose_device
from matchkit.core.errors import ConfigError, WeightsError, nearest_name
from matchkit.core.geometry import KEYPOINT_RULES, KeypointRule
from matchkit.core.interfaces import Backbone, Head, ImageHead, Matcher, PairHead
from matchkit.core.params import build, divide
from matchkit.evaluate import MATCHERS
from matchkit.evaluate.pose_alignment import PoseAlignmentParams
from matchkit.extract.backbones import BACKBONES
from matchkit.heads import HEADS
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.fit_exemplars import EXEMPLAR_HEADS
from matchkit.pipelines.match import POSITION, MatchParams
from matchkit.pipelines.prompted import build_backbone, promptable
from matchkit.pipelines.recall import recall
from matchkit.pipelines.settings import told, weights_path

ENDING = ".safetensors"
FEATURES = "geoaware"
EMBEDDED: Mapping[str, int] = {"canvas": 128, "crop": 128, "dino_canvas": 128}
"""Sides in pixels for the embedded networks, which were trained at 128; others take their own."""
EMBEDDED_BLOCKS = (("sd.s3",), ("dino",))
"""Of the fusion with the embedded networks, whose coarser layers of 4 x 4 and 2 x 2 cells do not help; with others it
has all of Stable Diffusion's layers in one block, and DINOv2's. Source: GeoAware-SC §1.4."""
SET = "--set"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """All that takes two photographs to matches.

    Attributes:
        name: of what matches, for a person.
        head: ready to describe.
        backbone: whose maps it describes.
        matcher: that compares descriptors.
        rule: how points change between the image frame and the grid frame.
        device: on which all of it computes.
    """

    name: str
    head: Head
    backbone: Backbone
    matcher: Matcher
    rule: KeypointRule
    device: torch.device


def load(head: str | Path | None, *, dataset: str | None, settings: Sequence[str], device: str) -> Loaded:
    """Loads a head and its networks.

    Args:
        head: the name of a fitted head, or its file; None takes the fusion.
        dataset: whose head is meant; None takes the only one of the name.
        settings: `key=value`, over the section `match` of `params.yaml`, and over the backbone's parameters.
        device: on which is computed.

    Raises:
        MatchkitError: no such head, one that cannot match photographs, or networks that are not those it was fitted on.
    """
    chosen = choose_device(device)
    kept = None if head is None else _kept(head_file(head, dataset))
    asked = told("match", settings)
    name = str(asked.values.get("matcher", MatchParams().matcher))
    of_backbone = BACKBONES.load(FEATURES if kept is None else kept[1].spec.backbone).Params
    kinds = (MatchParams, PoseAlignmentParams, MATCHERS.load(name).Params, of_backbone)
    own, of_alignment, of_matcher, overrides = divide(asked.values, kinds, where=asked.where)
    params = build(MatchParams, own, where=asked.where)
    if build(PoseAlignmentParams, of_alignment, where=asked.where).poses:
        raise ConfigError(f"photographs are matched as they are, without pose alignment. Match with: {SET} 'poses=[]'")
    matcher: Matcher = MATCHERS.build(name, of_matcher, where=asked.where)
    if kept is None:
        described, made, backbone = _fusion(overrides, device=chosen)
    else:
        described, made, backbone = _fitted(*kept, overrides, device=chosen)
    return Loaded(described, made, backbone, matcher, KEYPOINT_RULES[params.points], chosen)


def _fusion(overrides: Mapping[str, Any], *, device: torch.device) -> tuple[str, Head, Backbone]:
    """The fusion without fitting, its name and its networks."""
    embedded = not overrides.keys() & {"weights", "dino_weights"}
    values = {**(EMBEDDED if embedded else {}), **overrides}
    backbone = build_backbone(FEATURES, values, where=SET, device=device, prompt=None)
    blocks = EMBEDDED_BLOCKS if embedded else ()
    head: Head = HEADS.build("fusion", {"blocks": blocks}, where="fusion", spec=backbone.spec)
    if embedded:
        log.warning(
            "the embedded networks know five kinds of rendered toys and nothing of photographs. For these: "
            "--set weights=FOLDER_OR_ID of Stable Diffusion and --set dino_weights=FOLDER_OR_ID of DINOv2"
        )
    networks = "the embedded networks" if embedded else "Stable Diffusion and DINOv2"
    return f"a fusion of {networks} ({', '.join(head.layers)}), not fitted", head, backbone


def _fitted(
    path: Path, kept: HeadWeights, overrides: Mapping[str, Any], *, device: torch.device
) -> tuple[str, Head, Backbone]:
    """A fitted head, its name and the backbone that it was fitted on."""
    head = kept.build(device=device, backbones=partial(promptable, device=device, where=f"{path}: network"))
    if not isinstance(head, ImageHead | PairHead):
        raise WeightsError(f"{path} holds the head '{kept.head}', which describes no photographs")
    return f"the head {path}", head, recall(kept, overrides, where=str(path), device=device)


def _kept(path: Path) -> tuple[Path, HeadWeights]:
    kept = HeadWeights.load(path)
    if kept.head in EXEMPLAR_HEADS:
        raise WeightsError(
            f"{path} holds the head '{kept.head}', which matches a condition with a photograph. Run: matchkit "
            f"translate --head {path.stem}"
        )
    return path, kept


def head_file(head: str | Path, dataset: str | None) -> Path:
    """The file of a head that is told by its name or its path.

    Raises:
        ConfigError: a path and a dataset, the baseline that is no head, or several heads of the name.
        WeightsError: there is none.
    """
    told = str(head)
    if told.endswith(ENDING) or "/" in told or isinstance(head, Path):
        if dataset is not None:
            raise ConfigError(f"{told} is a head's file already: leave the dataset '{dataset}' out")
        return Path(head).expanduser()
    if told == POSITION:
        raise ConfigError(f"{POSITION} goes by the boxes of a dataset's objects, and photographs have none")
    if dataset is not None:
        path = weights_path(dataset, told)
        if not path.exists():
            raise WeightsError(f"no head at {path}. Run: matchkit fit-head {told} --dataset {dataset}")
        return path
    found = sorted(Path().glob(str(weights_path("*", told))))
    if not found:
        known = sorted({path.stem for path in Path().glob(str(weights_path("*", "*"))) if ".last" not in path.stem})
        hint = nearest_name(told, known) or (f" There are: {', '.join(known)}." if known else "")
        raise WeightsError(
            f"no head '{told}' below {weights_path('x', 'x').parts[0]}/.{hint} Run: matchkit fit-head {told} --dataset "
            "DATASET, or give the file itself"
        )
    if len(found) > 1:
        datasets = ", ".join(path.parent.name for path in found)
        raise ConfigError(f"which head '{told}' is meant? Say --dataset, one of: {datasets}")
    return found[0]

"""A project of photographs with conditions and the stores of both, on which heads between two domains stand."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from matchkit.pipelines.conditions import conditions
from matchkit.pipelines.extract import extract

PHOTOS, SIZE = 3, (40, 30)
CLASSES = "background\nleft_ear\nright_ear\n"


@pytest.fixture(scope="session")
def exemplar_tree(
    tmp_path_factory: pytest.TempPathFactory, draw: Callable[[tuple[int, int], int], Image.Image], sd_folder: Path
) -> Path:
    """The project as it is made once: `data/folder`, `features/folder` and `params.yaml`."""
    root = tmp_path_factory.mktemp("project")
    data = root / "data" / "folder"
    for kind in ("pose", "mask", "edge"):
        (data / "conditions" / kind).mkdir(parents=True)
    (data / "conditions" / "mask" / "classes.txt").write_text(CLASSES)
    rng = np.random.default_rng(0)
    for number in range(PHOTOS):
        draw(SIZE, number).save(data / f"{number}.png")
        labels = np.kron(rng.integers(0, 3, (3, 4)), np.ones((10, 10))).astype(np.uint8)
        Image.fromarray(labels).save(data / "conditions" / "mask" / f"{number}.png")
        Image.fromarray(100 * labels).save(data / "conditions" / "edge" / f"{number}.png")
        joints = np.concatenate([rng.uniform(2, 28, (18, 2)), np.ones((18, 1))], axis=1)
        pose = json.dumps({"people": [{"pose_keypoints_2d": joints.ravel().tolist()}]})
        (data / "conditions" / "pose" / f"{number}.json").write_text(pose)
    entries = {
        "maps": {"backbone": "pixels", "input_size": 32, "cell": 4, "fit": "letterbox"},
        "photos": {"backbone": "pixels", "input_size": 16, "cell": 1, "fit": "letterbox"},
        "latents": {"backbone": "sd-latents", "weights": str(sd_folder), "fit": "letterbox"},
    }
    told = {"extract": {"folder": entries}, "conditions": {"folder": {"mask": {"side": 16, "fit": "letterbox"}}}}
    (root / "params.yaml").write_text(yaml.safe_dump(told))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(os, "fsync", lambda _: None)
        for entry in entries:
            extract("folder", entry, device="cpu")
        for kind in ("mask", "edge", "pose"):
            conditions("folder", kind, settings=("side=16", "fit=letterbox"))
    return root


@pytest.fixture
def project(exemplar_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, in which the test runs."""
    root = tmp_path / "project"
    shutil.copytree(exemplar_tree, root)
    monkeypatch.chdir(root)
    return root

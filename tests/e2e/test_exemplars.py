"""Exemplars across domains on tiny toy views: stores, lists, fits, scores, sheet, by the verbs of the command line."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from matchkit.cli import main
from matchkit.core.exemplars import read_exemplars
from matchkit.evaluate.translation.inception import Inception, InceptionSettings
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.exemplar_sheet import main as sheet
from matchkit.pipelines.report import report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("embreex") is None, reason="needs embreex: the extra [toy]"),
]
ROOT = Path(__file__).parents[2]
FIT = {"steps": 3, "pairs": 4, "validate_every": 3, "validated": 4}
CROSS = FIT | {"head": "cross-domain", "features": "dinov2", "masks": "mask", "grid": 16, "width": 16, "out": 16}
PAINT = FIT | {
    **{"head": "translator", "features": "dinov2", "masks": "mask", "conditions": "edge"},
    **{"start": "weights/toy-views/cross-edge.safetensors"},
    "generator": {"width": 8, "ups": 2, "middle": 1, "attention": False, "modulation": 8},
}
PARAMS = {
    "make_toy_views": {"train_objects": 8, "val_objects": 8, "test_objects": 8},
    "extract": {"toy-views": {"pixels": {"cell": 4}, "sd-latents": {}, "dinov2": {}}},
    "pairs": {"toy-views": {"features": "dinov2"}},
    "fit_head": {
        "toy-views": {
            "cross-edge": CROSS | {"conditions": "edge"},
            "cross-pose": CROSS | {"conditions": "pose"},
            "spade": PAINT,
            "joint": PAINT
            | {"joint": True, "adversarial": 1.0, "gan_feature": 1.0, "judge_width": 8, "feature": 1.0, "context": 0.1}
            | {"generator": PAINT["generator"], "photos": "large"},
            "latent": PAINT | {"paints": "latent"},
        }
    },
}
PARAMS["extract"]["toy-views"]["large"] = {"backbone": "pixels", "cell": 2}


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All that stands before a fit."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("datasets", "make", "toy-views")
        for backbone in ("dinov2", "pixels", "large", "sd-latents"):
            run("extract", "--dataset", "toy-views", "--backbone", backbone, "--device", "cpu")
        for kind in ("pose", "mask", "edge"):
            run("conditions", "--dataset", "toy-views", "--kind", kind)
        for split in ("trn", "val", "test"):
            run("pairs", "--dataset", "toy-views", "--split", split)
        for head in ("cross-edge", "cross-pose"):
            run("fit-head", head, "--dataset", "toy-views", "--device", "cpu")
        yield folder


def test_exemplars_show_another_thing_of_the_category(project: Path) -> None:
    lists = read_exemplars(project / "exemplars" / "toy-views" / "test.jsonl")
    assert len(lists) == 16
    for name, entry in lists.items():
        assert entry.nearest
        assert all(other.rpartition("_")[0] != name.rpartition("_")[0] for other in entry.nearest)
        assert {other.partition("/")[0] for other in entry.nearest} == {name.partition("/")[0]}
        assert [other.rpartition("_")[0] for other in entry.same] == [name.rpartition("_")[0]]


def test_a_complete_fit_is_kept_and_its_stores_are_named(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = HeadWeights.load(Path("weights/toy-views/cross-pose.safetensors"))
    assert (kept.head, kept.config["kind"], kept.config["channels"]) == ("cross-domain", "pose", 55)
    assert kept.config["neutral"][-1] == 1.0
    assert (kept.fit["conditions"], kept.fit["masks"], kept.fit["features"]) == ("pose", "mask", "dinov2")
    with caplog.at_level("INFO", logger="matchkit"):
        run("fit-head", "cross-pose", "--dataset", "toy-views", "--device", "cpu")
    assert "complete already" in caplog.text


@pytest.mark.parametrize("name", ["spade", "joint", "latent"])
def test_translators_are_fitted_and_scored_beside_their_baselines(project: Path, name: str) -> None:
    fitted = run("fit-head", name, "--dataset", "toy-views", "--device", "cpu")
    assert "dB on the validation" in fitted.stdout
    matcher = HeadWeights.load(Path("weights/toy-views/cross-edge.safetensors")).tensors
    tensors = HeadWeights.load(Path(f"weights/toy-views/{name}.safetensors")).tensors
    moved = [bool((tensors[f"matcher.{key}"] != values).any()) for key, values in matcher.items()]
    assert any(moved) == (name == "joint")
    run("evaluate-exemplars", "--dataset", "toy-views", "--head", name, "--set", "limit=4", "--device", "cpu")
    told = json.loads(Path(f"reports/toy-views/exemplars/{name}.json").read_text())
    assert {"psnr", "ssim", "swd", "fd_dino", "semantic", "pck@0.05", "part_agreement"} <= told["scores"].keys()
    assert set(told["baselines"]) == {
        *("copy of the exemplar", "untrained adapters", "the target's own features", "warp alone"),
    }
    assert told["counts"]["targets"] == 4
    assert told["made_by"]["limit"] == 4
    assert told["baselines"]["copy of the exemplar"]["copy_score"] == 1.0


def test_ranks_and_the_table(project: Path) -> None:
    for rank in ("hard", "same"):
        options = ("--set", f"rank={rank}", "--set", "limit=4", "--as", f"edge-{rank}", "--device", "cpu")
        run("evaluate-exemplars", "--dataset", "toy-views", "--head", "cross-edge", *options)
    text = report().text
    assert "## toy-views: exemplars across domains" in text
    assert "| edge-same |" in text
    assert "*untrained adapters* (edge-hard)" in text


def test_fid_with_the_weights_of_a_file(project: Path) -> None:
    """Weights that were drawn, not FID's, which are not at hand: what is seen is that they are read and named."""
    torch.manual_seed(0)
    torch.save(Inception(InceptionSettings("tensorflow", "drawn")).state_dict(), "inception.pth")
    options = ("--set", "inception=inception.pth", "--set", "inception_resize=half-pixel", "--set", "limit=2")
    run("evaluate-exemplars", "--dataset", "toy-views", "--head", "cross-pose", *options, "--as", "fid")
    told = json.loads(Path("reports/toy-views/exemplars/fid.json").read_text())
    assert told["scores"]["fid"] >= 0
    assert told["baselines"]["copy of the exemplar"]["fid"] >= 0
    assert "resize half-pixel, weights sha256:" in told["settings"]["fid"]["network"]
    assert told["settings"]["fid"]["vectors"] == [2, 2]


def test_a_sheet_shows_targets_by_every_head(project: Path) -> None:
    run("fit-head", "spade", "--dataset", "toy-views", "--device", "cpu")
    told = ["--dataset", "toy-views", "--head", "cross-edge", "--head", "cross-pose", "--translator", "spade"]
    result = CliRunner().invoke(sheet, [*told, "--count", "2", "--side", "64", "--out", "sheet.png"])
    assert result.exit_code == 0, result.output
    with Image.open("sheet.png") as picture:
        assert picture.width > 6 * 64
        assert picture.height > 4 * 64


def test_several_stores_are_not_one(project: Path) -> None:
    told = ["fit-head", "cross-edge", "--dataset", "toy-views", "--store", "features/toy-views/dinov2.zarr"]
    result = CliRunner().invoke(main, told)
    assert result.exit_code == 1
    assert "reads several stores" in result.stderr


def test_the_stages_of_dvc_are_verbs_with_entries_of_their_own() -> None:
    stages = yaml.safe_load((ROOT / "benchmarks" / "exemplars" / "dvc.yaml").read_text())["stages"]
    entries = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(stages["fit-head"]["foreach"]) <= set(entries["fit_head"]["toy-views"])
    assert set(stages["fit-translator"]["foreach"]) <= set(entries["fit_head"]["toy-views"])
    assert set(stages["extract"]["foreach"]) == set(entries["extract"]["toy-views"])
    for stage in stages.values():
        command = (stage.get("do") or stage)["cmd"].split()
        assert command[0] == "matchkit"
        assert command[1] in main.commands

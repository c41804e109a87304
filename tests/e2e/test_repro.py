"""The whole pipeline by `dvc repro` on a toy project with the embedded default: once, not again, scoring alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.timeout(600)  # its fixture runs some forty stages, a process each, beside another worker
ROOT = Path(__file__).parents[2]
SMALL = {
    "train_images": 15,
    "val_images": 10,
    "test_images": 10,
    "train_pairs": 10,
    "val_pairs": 5,
    "test_pairs": 10,
}
METHODS = (
    *("same-relative-position", "raw-layer", "concatenate", "aggregator", "aggregator-random"),
    *("fusion", "fusion-aligned", "post-processor", "post-processor-random"),
)


def dvc(folder: Path, *arguments: str) -> str:
    environment = dict(os.environ, PYTHONSAFEPATH="1", OMP_NUM_THREADS="1", DVC_NO_ANALYTICS="1")
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "dvc", *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def change(folder: Path, section: str, **values: object) -> None:
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params[section] |= values
    path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The repository's own stages on a smaller dataset, run once; with what DVC said."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    heads = yaml.safe_load((folder / "params.yaml").read_text())["fit_head"]["toy"]
    short = {
        name: entry | ({"steps": 4, "validate_every": 2} if "steps" in entry else {}) for name, entry in heads.items()
    }
    change(folder, "make_toy", **SMALL)
    change(folder, "fit_head", toy=short)
    dvc(folder, "init", "--no-scm", "--quiet")
    return folder, dvc(folder, "repro")


@pytest.mark.slow
def test_every_stage_runs_and_ends_in_the_summary(project: tuple[Path, str]) -> None:
    folder, output = project
    assert len(stages_run(output)) == 31
    summary = (folder / "reports" / "summary.md").read_text()
    for method in METHODS:
        assert f"| {method} |" in summary
    assert "10 pairs" in summary


@pytest.mark.slow
def test_nothing_runs_twice_and_a_new_alpha_only_scores_again(project: tuple[Path, str]) -> None:
    folder, _ = project
    assert stages_run(dvc(folder, "repro")) == []
    change(folder, "evaluate", alphas=[0.1, 0.2])
    ran = stages_run(dvc(folder, "repro"))
    assert sorted(ran) == sorted([*(f"evaluate@{method}" for method in METHODS), "report"])
    assert "PCK@0.20" in (folder / "reports" / "summary.md").read_text()


@pytest.mark.slow
def test_a_deleted_store_is_noticed_and_made_again(project: tuple[Path, str]) -> None:
    folder, _ = project
    store = folder / "features" / "toy" / "sd-random.zarr"
    manifest = (store / "ledger" / "manifest.json").read_bytes()
    shutil.rmtree(store)
    assert stages_run(dvc(folder, "repro", "extract@toy-sd-random")) == ["extract@toy-sd-random"]
    assert (store / "ledger" / "manifest.json").read_bytes() == manifest

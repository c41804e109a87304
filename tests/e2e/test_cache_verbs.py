"""`matchkit cache` on the command line: one line or a table on stdout, JSON for machines, exit code 1 for findings."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.spec import FeatureSpec, LayerSpec

SPEC = FeatureSpec("pixels", "none", (LayerSpec("rgb", 3, (2, 2)),), (0,), (16, 16), "letterbox", "fp16", {"seed": 0})
STORE = "features/toy/pixels.zarr"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with FeatureStore.create(STORE, SPEC, ["a", "b", "c"]) as store:
        for image_id in "ab":
            store.write(image_id, {"rgb": torch.randn(1, 3, 2, 2)})
        store.finalize()
    return tmp_path / STORE


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["cache", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["cache", *arguments], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stdout == ""
    return result.stderr


def test_ls() -> None:
    head, line = run("ls").stdout.splitlines()
    assert head.split()[:2] == ["store", "images"]
    assert line.split() == [STORE, "2/3", "1", "x", "1", "fp16", *line.split()[6:8], SPEC.digest(), "-"]
    (listed,) = json.loads(run("ls", "--json", STORE).stdout)
    assert (listed["store"], listed["images"], listed["rows"]) == (STORE, 2, 3)
    assert run("ls", str(Path(STORE, "rgb"))).stdout == f"no feature store below {STORE}/rgb\n"


def test_info() -> None:
    with FeatureStore.open(STORE) as store:
        store.note("measured", "x" * 999)
    lines = dict(line.split("  ", 1) for line in run("info", STORE).stdout.splitlines())
    told = {key: value.strip() for key, value in lines.items()}
    assert (told["digest"], told["images"], told["timesteps"]) == (SPEC.digest(), "2 of 3", "0")
    assert (told["layers"], told["options"], told["input"]) == ("rgb 3 x 2 x 2", "seed=0", "16 x 16 pixels, letterbox")
    assert told["note: measured"].endswith("... (--json shows all)")
    assert json.loads(run("info", STORE, "--json").stdout)["notes"] == {"measured": "x" * 999}


def test_du() -> None:
    lines = [line.split() for line in run("du", STORE).stdout.splitlines()]
    assert [line[0] for line in lines] == ["layer", "rgb", "ledger", "metadata", "in"]
    assert json.loads(run("du", STORE, "--json").stdout)["images"] == 2


def test_verify_and_gc(project: Path) -> None:
    assert run("verify", STORE).stdout == f"{STORE}: 2 images intact, 1 absent\n"
    (project / "rgb/note").write_text("hello")
    assert f"Run: matchkit cache gc {STORE}" in refused("verify", STORE)
    assert run("gc", STORE).stdout == f"{STORE}: 5 B in 1 files freed\n"
    shard = next(project.glob("rgb/c.*"))
    shard.write_bytes(b"?" + shard.read_bytes()[1:])
    assert f"(image 'a') is not what was written (timesteps 0). Run: matchkit cache verify --repair {STORE}" in refused(
        "verify", STORE
    )
    repaired = run("verify", STORE, "--repair").stdout
    assert repaired == f"{STORE}: 1 images intact, 2 absent; repaired: 1; withdrawn: 1. Run: matchkit extract\n"
    assert json.loads(run("verify", STORE, "--json").stdout)["images"] == 1
    assert "no feature store at nowhere" in refused("gc", "nowhere")

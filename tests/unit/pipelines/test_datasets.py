"""Making the toy datasets by their verb: what params.yaml and --set say, what is kept, what gives way."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from matchkit.cli.datasets import datasets
from matchkit.core.errors import ConfigError, DatasetError, UnknownNameError
from matchkit.extract.datasets.toy.views import ViewSettings
from matchkit.pipelines.datasets import DatasetCounts, count, make

EMBREEX = pytest.mark.skipif(importlib.util.find_spec("embreex") is None, reason="needs embreex: the extra [toy]")
FEW = ("train_objects=1", "val_objects=1", "test_objects=1", "views=1", "size=32")
FEW_PAIRS = (
    *("train_images=6", "val_images=6", "test_images=6", "size=32"),
    *("train_pairs=1", "val_pairs=1", "test_pairs=1"),
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and one process to render."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matchkit.extract.datasets.toy.trees.os.sched_getaffinity", lambda process: {0}, raising=False)
    return tmp_path


def note(root: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((root / "toy-views.json").read_text())
    return held


@EMBREEX
def test_the_section_and_settings_over_it_say_what_is_made(project: Path) -> None:
    (project / "params.yaml").write_text("make_toy_views:\n  seed: 7\n  views: 2\n  azimuths: [20, 30]\n")
    made = make("toy-views", settings=FEW)
    assert made == DatasetCounts(Path("data/toy-views"), 3, {})
    assert count("toy-views") == made
    expected = ViewSettings(7, 1, 1, 1, views=1, size=32, azimuths=(20.0, 30.0))
    assert note(made.root) == json.loads(json.dumps(expected.fields()))


@EMBREEX
def test_a_tree_of_other_settings_gives_way_on_replace_alone(project: Path) -> None:
    root = project / "mine"
    make("toy-views", root, FEW)
    with pytest.raises(DatasetError, match=r"other settings \(seed\)"):
        make("toy-views", root, (*FEW, "seed=1"))
    assert note(root)["seed"] == 0
    make("toy-views", root, (*FEW, "seed=1"), replace=True)
    assert note(root)["seed"] == 1
    assert list(project.iterdir()) == [root]


@EMBREEX
def test_another_dataset_never_gives_way(project: Path) -> None:
    root = project / "mine"
    make("toy-views", root, FEW)
    with pytest.raises(DatasetError, match="in the way: it holds no toy dataset"):
        make("toy", root, FEW_PAIRS, replace=True)
    assert note(root)["views"] == 1


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'spair' cannot be made; there are: toy, toy-views"):
        make("spair")
    with pytest.raises(ConfigError, match=r"no parameter 'vews'.*Did you mean 'views'"):
        make("toy-views", settings=["vews=3"])
    with pytest.raises(ConfigError, match="at least one view"):
        make("toy-views", settings=["views=0"])


@EMBREEX
@pytest.mark.parametrize(
    ("name", "settings", "line"),
    [
        ("toy", FEW_PAIRS, "data/toy: 18 images; pairs: 1 trn, 1 val, 1 test\n"),
        ("toy-views", FEW, "data/toy-views: 3 images; pairs: none\n"),
    ],
)
def test_the_verb_makes_and_counts(name: str, settings: tuple[str, ...], line: str) -> None:
    options = [word for setting in settings for word in ("--set", setting)]
    made = CliRunner().invoke(datasets, ["make", name, *options])
    assert (made.exit_code, made.stdout) == (0, line), made.output
    told = CliRunner().invoke(datasets, ["info", name])
    assert (told.exit_code, told.stdout) == (0, line)


def test_the_verb_makes_nothing_else() -> None:
    assert CliRunner().invoke(datasets, ["make", "spair"]).exit_code == 2

"""Published checkpoints as heads: read without their code, and only if they are exactly the head's."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.errors import ConfigError, WeightsError
from matchkit.heads.post_processor import PostProcessor, PostProcessorParams
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.extract import extract
from matchkit.pipelines.import_head import import_head
from matchkit.pipelines.match import match

SMALL = ("features=pixels", "projection=128")


@pytest.fixture
def project(spair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a feature store of `spair`."""
    monkeypatch.chdir(spair_tree.parent)
    extract("spair", "pixels", root=spair_tree, settings=("input_size=32",), device="cpu")
    return spair_tree


def state() -> dict[str, torch.Tensor]:
    """A post-processor's for the project's features, other than a fresh one's."""
    spec = FeatureStore.open("features/spair/pixels.zarr").spec
    return PostProcessor(PostProcessorParams(projection=128, seed=5), spec=spec).state_dict()


def saved(values: object, name: str = "best.pth") -> Path:
    torch.save(values, name)
    return Path(name)


def imported(file: Path, *, head: str = "post-processor", **options: Any) -> HeadWeights:
    return HeadWeights.load(import_head(file, "spair", head, settings=SMALL, **options).weights)


def test_a_checkpoint_becomes_a_head_that_matches(project: Path) -> None:
    wanted = state()
    kept = imported(saved(wanted))
    assert kept.tensors.keys() == wanted.keys()
    assert all(torch.equal(kept.tensors[name], values) for name, values in wanted.items())
    assert (kept.head, kept.fit["features"], kept.fit["imported"]) == ("post-processor", "pixels", "best.pth")
    assert match("spair", "post-processor", root=project, settings=("split=test",), device="cpu").pairs == 1


@pytest.mark.parametrize("form", ["module", "aggregation_network", "state_dict"])
def test_forms_of_checkpoints(project: Path, form: str) -> None:
    plain = state()
    within = {"step": 7, "config": {"dims": [1, 2]}, form: plain}
    file = saved({f"module.{key}": values for key, values in plain.items()} if form == "module" else within)
    kept = imported(file)
    assert all(torch.equal(kept.tensors[name], values) for name, values in plain.items())


def without_one(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: values for key, values in tensors.items() if key != "mixing_weights"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_one, r'best\.pth: the weights do not fit head .* Missing key\(s\) in state_dict: "mixing_weights"'),
        (lambda x: x | {"pose": torch.ones(1)}, r'Unexpected key\(s\) in state_dict: "pose"'),
        (lambda x: x | {"mixing_weights": torch.ones(4)}, r"size mismatch for mixing_weights.*The layers were: rgb\."),
        (lambda x: {}, "holds no parameters by name"),
        (lambda x: list(x.values()), "holds no parameters by name"),
        (lambda x: x | {"epoch": 3}, "'epoch' is no tensor"),
    ],
)
def test_another_networks_parameters_are_refused(project: Path, change: Any, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        imported(saved(change(state())))
    assert not Path("weights").exists()


def test_nothing_in_a_file_is_executed(project: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path("exploded"),)  # type: ignore[return-value]

    with pytest.raises(WeightsError, match="which only running code from that file could restore; it is not read"):
        imported(saved(state() | {"bomb": Bomb()}))
    Path("plain.pth").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match=r"plain\.pth is cut short or no file of torch\.save"):
        imported(Path("plain.pth"))
    assert not Path("exploded").exists()


def test_again_it_is_kept_and_another_head_is_not_written_over(project: Path) -> None:
    file = saved(state())
    assert imported(file).tensors.keys() == imported(file).tensors.keys()
    other = saved({key: values + 1 for key, values in state().items()}, "other.pth")
    with pytest.raises(WeightsError, match=r"weights/spair/post-processor\.safetensors is another head already"):
        imported(other)
    assert imported(other, out=Path("mine.safetensors")).fit["imported"] == "other.pth"


def test_a_head_without_parameters_takes_none(project: Path) -> None:
    with pytest.raises(ConfigError, match="head 'raw-layer' has no parameters to import"):
        import_head(saved(state()), "spair", "raw-layer", settings=("features=pixels",))


def test_on_the_command_line(project: Path) -> None:
    saved(state())
    told = ["import-head", "best.pth", "--dataset", "spair", "--head", "post-processor"]
    result = CliRunner().invoke(main, [*told, *(f"--set={setting}" for setting in SMALL)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    numbers = sum(values.numel() for values in state().values())
    expected = f"weights/spair/post-processor.safetensors: {numbers:,} parameters of best.pth\n"
    assert result.stdout == expected

"""Conversions as a user asks for them, and the table of what they cost, on features that tell where a pixel lies."""

import csv
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from matchkit.cache.derive import Derivation
from matchkit.cache.keypoints import KeypointTable
from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.errors import ConfigError, DatasetError, StoreError
from matchkit.core.geometry import image_to_grid, place
from matchkit.core.similarity import sample
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.extract.datasets.folder import Folder
from matchkit.heads import HEADS
from matchkit.heads.weights import HeadWeights, keep
from matchkit.pipelines.convert import Measured, convert, derivation, kept_by_share, keypoint_table, measure
from matchkit.pipelines.fit_head import fit_head
from matchkit.pipelines.match import match

LAYERS = (LayerSpec("up0.0", 32, (4, 4)), LayerSpec("up1.0", 16, (8, 8)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (460, -1), (32, 32), "letterbox", "fp32")
SIZES = {"a": (30, 60), "b": (48, 40), "c": (33, 35), "d": (64, 32), "lonely": (20, 20)}
PAIRS = {"trn": ["ab", "cd"], "val": ["bc"], "test": ["ad", "ba", "dc", "cb"], "bare": ["ac"]}
COLUMNS = ("source", "target", "split", "keypoint", "source_x", "source_y", "target_x", "target_y")


def place_of(name: str, keypoint: int) -> list[float]:
    """A keypoint of an image: the same share of every image's sides."""
    return [round(SIZES[name][0] * (0.2 + 0.2 * keypoint), 1), round(SIZES[name][1] * (0.8 - 0.17 * keypoint), 1)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images with four keypoints a pair; the pair of split `bare` has none."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    folder.mkdir()
    for name, size in SIZES.items():
        Image.new("RGB", size).save(folder / f"{name}.png")
    with (folder / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for split, pairs in PAIRS.items():
            for source, target in pairs:
                for keypoint in range(0 if split == "bare" else 4):
                    points = [*place_of(source, keypoint), *place_of(target, keypoint)]
                    rows.writerow([source, target, split, f"k{keypoint}", *points])
                if split == "bare":
                    rows.writerow([source, target, split, "", "", "", "", ""])
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Maps of all five images: the same pattern stretched over every image, and noise."""
    generator = torch.Generator().manual_seed(0)
    patterns = {layer.name: torch.randn(2, layer.channels, *layer.grid, generator=generator) for layer in LAYERS}
    where = tmp_path_factory.mktemp("features") / "F.zarr"
    with FeatureStore.create(where, SPEC, list(SIZES)) as store:
        for name in SIZES:
            noisy = {layer: 0.3 * torch.randn(values.shape, generator=generator) for layer, values in patterns.items()}
            store.write(name, {layer: values + noisy[layer] for layer, values in patterns.items()})
        store.finalize()
    return str(where)


def how(**told: Any) -> Derivation:
    plain: dict[str, Any] = {"codec": "", "layers": (), "timesteps": (), "keep": None, "weights": None}
    return derivation(**{**plain, "pool": None, "zstd": False, **told})


def test_what_a_user_says_becomes_a_derivation(tmp_path: Path) -> None:
    assert how() == Derivation()
    assert how(codec="int8", layers=("x", "y"), timesteps=(-1, 0), pool="mean", zstd=True) == Derivation(
        dtype="int8", layers=("x", "y"), timesteps=(-1, 0), pool="mean", compressed=True
    )
    weights = tmp_path / "w.safetensors"
    for told in ({"keep": 0.5}, {"weights": weights}, {"keep": 0.5, "weights": weights, "layers": ("x",)}):
        with pytest.raises(ConfigError, match="--keep takes --weights, and neither --layers nor --timesteps"):
            how(**told)


def aggregator(path: Path, mixed: list[list[float]]) -> Path:
    """An aggregator whose mixing weights are these shares, a row a timestep and a column a layer."""
    layers = tuple(LayerSpec(f"l{number}", 4, (2, 2)) for number in range(len(mixed[0])))
    spec = FeatureSpec("pixels", "none", layers, tuple(range(len(mixed))), (32, 32), "stretch", "fp16")
    head = HEADS.build("aggregator", {"projection": 128}, where="", spec=spec)
    state = head.state_dict()
    state["mixing_weights"] = torch.tensor(mixed).flatten().log() + 3  # a softmax knows no constant
    head.load_state_dict(state)
    keep(head, "aggregator", spec=spec, fit={}).save(path)
    return path


@pytest.mark.parametrize(
    ("share", "layers", "timesteps"),
    [
        (0.01, ("l2",), (1,)),
        (0.6, ("l2",), (1,)),
        (0.61, ("l0", "l2"), (1,)),
        (0.7, ("l0", "l2"), (1,)),
        (0.71, ("l0", "l2"), (0, 1)),
        (0.95, ("l0", "l1", "l2"), (0, 1)),
        (1.0, ("l0", "l1", "l2"), (0, 1)),
    ],
)
def test_what_holds_a_share_of_the_mixing_weights(
    tmp_path: Path, share: float, layers: tuple[str, ...], timesteps: tuple[int, ...]
) -> None:
    """The layers hold 0.3, 0.1 and 0.6, the timesteps 0.3 and 0.7; what is kept stays in the head's order."""
    weights = aggregator(tmp_path / "w.safetensors", [[0.1, 0.05, 0.15], [0.2, 0.05, 0.45]])
    assert kept_by_share(weights, share) == (layers, timesteps)
    assert how(keep=share, weights=weights) == Derivation(layers=layers, timesteps=timesteps)


def test_a_share_of_other_weights_is_refused(tmp_path: Path) -> None:
    weights = aggregator(tmp_path / "w.safetensors", [[0.5, 0.5]])
    for share in (0.0, 1.1, -0.5):
        with pytest.raises(ConfigError, match=r"is not in \(0, 1\]"):
            kept_by_share(weights, share)
    HeadWeights("concatenate", {"layers": [], "timesteps": []}, SPEC).save(tmp_path / "plain.safetensors")
    with pytest.raises(ConfigError, match=r"plain\.safetensors mixes no layers and timesteps"):
        kept_by_share(tmp_path / "plain.safetensors", 0.5)


def test_a_conversion_says_what_it_made(store: str, tmp_path: Path) -> None:
    made = convert(store, str(tmp_path / "D.zarr"), how(codec="int8", layers=("up1.0",), timesteps=(-1,)))
    derived = FeatureStore.open(tmp_path / "D.zarr")
    assert (made.store, made.digest, made.images) == (str(derived), derived.spec.digest(), 5)
    assert (made.bytes_before, made.bytes_after) == (2 * 4 * (32 * 16 + 16 * 64), 64 * (16 + 2))
    assert convert(store, str(tmp_path / "D.zarr"), how(codec="int8", layers=("up1.0",), timesteps=(-1,))) == made
    packed = convert(store, str(tmp_path / "Z.zarr"), how(zstd=True))
    assert 0.5 * packed.bytes_before < packed.bytes_after != packed.bytes_before


def measured(store: str, out: Path, root: Path, **told: Any) -> list[Measured]:
    convert(store, str(out), how(**told))
    return measure(store, str(out), dataset="folder", root=root, split="test")


@pytest.mark.parametrize("told", [{}, {"zstd": True}, {"layers": ("up1.0", "up0.0"), "timesteps": (-1,)}])
def test_a_copy_costs_nothing(store: str, root: Path, tmp_path: Path, told: dict[str, Any]) -> None:
    rows = measured(store, tmp_path / "D.zarr", root, **told)
    assert [row.name for row in rows] == [*told.get("layers", ("up0.0", "up1.0")), "all"]
    assert rows[-1].loss is None
    for row in rows[:-1]:
        assert row.loss is not None
        assert (row.loss.error, row.loss.agreement, row.loss.cells) == (0.0, 1.0, 1.0)
    for row in rows:
        assert row.pck.before == row.pck.after > 50
        assert (row.pck.difference, row.pck.low, row.pck.high) == (0.0, 0.0, 0.0)


def test_a_coarser_store_costs_what_it_costs(store: str, root: Path, tmp_path: Path) -> None:
    fine, coarse = (measured(store, tmp_path / f"{name}.zarr", root, codec=name) for name in ("int8", "pca-1"))
    for one, other in zip(fine, coarse, strict=True):
        assert one.name == other.name
        assert one.pck.before == other.pck.before
        assert one.pck.after > other.pck.after
        for pck in (one.pck, other.pck):
            assert pck.difference == pytest.approx(pck.after - pck.before)
            assert pck.low <= pck.difference <= pck.high
        if one.loss is not None:
            assert other.loss is not None
            assert 0 < one.loss.error < 0.01 < 0.3 < other.loss.error < 1
            assert 1 >= one.loss.agreement > other.loss.agreement >= 0
            assert 1 >= one.loss.cells > other.loss.cells >= 0


def test_the_table_is_kept_with_the_store(store: str, root: Path, tmp_path: Path) -> None:
    convert(store, str(tmp_path / "D.zarr"), how(codec="int8"))
    with FeatureStore.create(tmp_path / "D.zarr", FeatureStore.open(tmp_path / "D.zarr").spec, []) as derived:
        derived.note("owner", {"name": "me"})
    content = FeatureStore.open(tmp_path / "D.zarr").content
    for _ in range(2):
        rows = measure(store, str(tmp_path / "D.zarr"), dataset="folder", root=root, split="test")
        kept = FeatureStore.open(tmp_path / "D.zarr")
        assert kept.content == content
        assert kept.notes["owner"] == {"name": "me"}
        note = kept.notes["measured"]
        about = ("folder", "test", 4, 0.1, FeatureStore.open(store).content)
        assert tuple(note[key] for key in ("dataset", "split", "pairs", "alpha", "parent")) == about
        assert [row["name"] for row in note["rows"]] == ["up0.0", "up1.0", "all"]
        assert [row["pck"]["after"] for row in note["rows"]] == [row.pck.after for row in rows]
        assert rows[0].loss is not None
        assert note["rows"][0]["loss"]["error"] == rows[0].loss.error
        assert "loss" not in note["rows"][-1]
    convert(store, str(tmp_path / "D.zarr"), how(codec="int8"))
    assert "measured" in FeatureStore.open(tmp_path / "D.zarr").notes


def test_what_cannot_be_measured_is_refused(store: str, root: Path, tmp_path: Path) -> None:
    def compared(before: str, after: Path, split: str = "test") -> list[Measured]:
        return measure(before, str(after), dataset="folder", root=root, split=split)

    convert(store, str(tmp_path / "8.zarr"), how(codec="int8"))
    convert(store, str(tmp_path / "4.zarr"), how(codec="int4"))
    convert(store, str(tmp_path / "P.zarr"), how(pool="mean"))
    for before, after in ((str(tmp_path / "8.zarr"), "4.zarr"), (store, "P.zarr")):
        with pytest.raises(ConfigError, match=rf"{after} holds no maps that were derived from {before}"):
            compared(before, tmp_path / after)
    with pytest.raises(DatasetError, match="none of the pairs of folder's bare has a keypoint"):
        compared(store, tmp_path / "8.zarr", "bare")
    with FeatureStore.create(tmp_path / "8.zarr", FeatureStore.open(tmp_path / "8.zarr").spec, []) as derived:
        derived.withdraw("c")
    with pytest.raises(StoreError, match=r"8\.zarr holds 3 of 4 images \(first absent: c\)"):
        compared(store, tmp_path / "8.zarr")


def test_the_keypoint_table_of_a_dataset(store: str, root: Path, tmp_path: Path) -> None:
    made = keypoint_table(store, str(tmp_path / "K.zarr"), dataset="folder", root=root)
    assert (made.images, made.bytes_after) == (4, 4 * 4 * 2 * (32 + 16))
    table, parent, images = (
        KeypointTable(FeatureStore.open(tmp_path / "K.zarr")),
        FeatureStore.open(store),
        Folder(root).images,
    )
    for name in "abcd":
        assert sorted(table.keypoints(name)) == ["k0", "k1", "k2", "k3"]
        points = np.asarray([place_of(name, int(keypoint[1])) for keypoint in table.keypoints(name)], np.float32)
        on_grid = torch.from_numpy(image_to_grid(points, place(images[name].size, (32, 32), fit="letterbox"), (8, 8)))
        expected = sample(parent.read(name, ["up1.0"], [460])["up1.0"][0], on_grid)
        (column,) = [c for c in table.columns if (c.layer, c.timestep) == ("up1.0", 460)]
        torch.testing.assert_close(table.read(name)[:, column.channels], expected)


def test_a_head_matches_from_a_store_derived_from_its_own(
    store: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit_head("folder", "concatenate", root=root, store=store, device="cpu")
    convert(store, "D.zarr", how(codec="int8"))
    convert(store, "L.zarr", how(layers=("up1.0",)))
    found = match("folder", "concatenate", root=root, store="D.zarr", device="cpu")
    assert (found.pairs, found.keypoints) == (4, 16)
    with pytest.raises(StoreError, match=r"no layer 'up0\.0'"):
        match("folder", "concatenate", root=root, store="L.zarr", device="cpu")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["cache", "convert", *arguments], catch_exceptions=False)


@pytest.fixture
def project(store: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """What a user types for the dataset; the current folder is empty."""
    monkeypatch.chdir(tmp_path)
    return "--dataset", "folder", "--root", str(root)


def test_a_line_says_what_came_of_it(store: str, project: tuple[str, ...]) -> None:
    result = run(store, "D.zarr", "--codec", "int8", "--layers", "up1.0, up0.0", "--timesteps", "-1")
    assert result.exit_code == 0
    digest = FeatureStore.open("D.zarr").spec.digest()
    line = "D.zarr: 5 images, 0.002 MB an image instead of 0.012 (7.25 times fewer), spec "
    assert result.stdout == f"{line}{digest}\n"
    assert FeatureStore.open("D.zarr").layers == ("up1.0", "up0.0")
    told = json.loads(
        run(store, "D.zarr", "--codec", "int8", "--layers", "up1.0,up0.0", "--timesteps", "-1", "--json").stdout
    )
    assert told == {"store": "D.zarr", "digest": digest, "images": 5, "bytes_before": 12288, "bytes_after": 1696}


def test_a_table_says_what_it_cost(store: str, project: tuple[str, ...]) -> None:
    result = run(store, "D.zarr", "--measure", *project)
    assert result.exit_code == 0
    head, *rows, empty, line = result.stdout.splitlines()
    assert head.split()[:3] == ["layer", "error", "agreement"]
    assert [row.split()[0] for row in rows] == ["up0.0", "up1.0", "all"]
    assert all(row.endswith("+0.00 [+0.00, +0.00]") for row in rows)
    assert all(re.search(r" 0\.0000 +1\.0000 +1\.0000 ", row) for row in rows[:2])
    assert (empty, line.partition(":")[0]) == ("", "D.zarr")
    told = json.loads(run(store, "D.zarr", "--measure", *project, "--json").stdout)
    assert told["store"]["images"] == 5
    assert [row["name"] for row in told["rows"]] == ["up0.0", "up1.0", "all"]
    assert FeatureStore.open("D.zarr").notes["measured"]["rows"][0]["pck"] == told["rows"][0]["pck"]


def test_keypoints_and_shares(store: str, project: tuple[str, ...]) -> None:
    assert run(store, "K.zarr", "--keypoints", *project).stdout.startswith("K.zarr: 4 images")
    assert KeypointTable(FeatureStore.open("K.zarr")).keypoints("a")
    head = HEADS.build("aggregator", {"projection": 128}, where="", spec=SPEC)
    state = head.state_dict()
    state["mixing_weights"] = torch.tensor([[0.05, 0.6], [0.05, 0.3]]).flatten().log()
    head.load_state_dict(state)
    keep(head, "aggregator", spec=SPEC, fit={}).save(Path("w.safetensors"))
    assert run(store, "S.zarr", "--keep", "0.6", "--weights", "w.safetensors").exit_code == 0
    assert (FeatureStore.open("S.zarr").layers, FeatureStore.open("S.zarr").timesteps) == (("up1.0",), (460,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--timesteps", "1,x"], "whole numbers with commas between them, e.g. 0,100,200"),
        (["--measure"], "--keypoints and --measure need --dataset"),
        (["--keypoints"], "--keypoints and --measure need --dataset"),
        (["--keypoints", "--codec", "int8", "--dataset", "folder"], "takes no other option"),
        (["--keypoints", "--measure", "--dataset", "folder"], "takes no other option"),
        (["--pool", "mean", "--measure", "--dataset", "folder"], "--measure compares maps, and --pool leaves none"),
        (["--pool", "max"], "is not 'mean'"),
        (["--keep", "1.5"], "1.5 is not in the range"),
    ],
)
def test_wrong_usage_exits_with_2_and_writes_nothing(
    store: str, project: tuple[str, ...], options: list[str], message: str
) -> None:
    result = run(store, "D.zarr", *options)
    assert result.exit_code == click.UsageError.exit_code == 2
    assert message in result.stderr
    assert not Path("D.zarr").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--codec", "int7"], "no codec 'int7'. Did you mean 'int8'?"),
        (["--layers", "up9.9"], "no layer 'up9.9'"),
        (["--timesteps", "5"], "no timestep 5; there are: 460, -1"),
        (["--keep", "0.5"], "--keep takes --weights"),
        (["--keep", "0.5", "--weights", "none.safetensors"], "no head at none.safetensors"),
        (["--codec", "pca-4", "--pool", "mean"], "pooled vectors are not projected"),
    ],
)
def test_what_cannot_be_converted_exits_with_1_in_one_line(
    store: str, project: tuple[str, ...], options: list[str], message: str
) -> None:
    result = run(store, "D.zarr", *options)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert not result.stdout


def test_a_store_that_is_not_there(project: tuple[str, ...]) -> None:
    result = run("nothing.zarr", "D.zarr")
    assert result.exit_code == 1
    assert "no feature store at nothing.zarr. Run: matchkit extract" in result.stderr


def test_a_dataset_without_keypoints(store: str, project: tuple[str, ...], draw: Callable[..., Image.Image]) -> None:
    Path("bare").mkdir()
    draw((20, 20), 0).save("bare/a.png")
    result = run(store, "K.zarr", "--keypoints", "--dataset", "folder", "--root", "bare")
    assert result.exit_code == 1
    assert "there are no keypoints" in result.stderr


@pytest.mark.skipif(importlib.util.find_spec("embreex") is None, reason="needs embreex: the extra [toy]")
def test_the_toy_dataset_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matchkit.extract.datasets.toy import ToySizes, make_toy

    monkeypatch.chdir(tmp_path)
    make_toy(Path("data/toy"), seed=0, sizes=ToySizes(0, 0, 20, 0, 0, 6), size=48, workers=1)
    extracted = ("extract", "--dataset", "toy", "--backbone", "pixels", "--set", "input_size=48", "--out", "F.zarr")
    assert CliRunner().invoke(main, list(extracted), catch_exceptions=False).exit_code == 0
    result = run("F.zarr", "D.zarr", "--codec", "int8", "--measure", "--dataset", "toy")
    assert result.exit_code == 0
    assert "D.zarr: 20 images" in result.stdout
    note = FeatureStore.open("D.zarr").notes["measured"]
    assert (note["dataset"], note["split"], note["pairs"]) == ("toy", "test", 6)
    assert 0 <= note["rows"][0]["loss"]["error"] < 0.01

"""The GeoAware-SC tree: read as the published script writes it, written as its readers want it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from matchkit.cache.interchange import Source, Target
from matchkit.cache.interchange.geoaware import GeoAwareFiles, GeoAwareParams, GeoAwareTree, tree_layers
from matchkit.core.errors import ConfigError, StoreError

IDS = ["cat/2008_000001", "cat/2008_000001@flip", "dog/2009_001225", "dog/2009_001225@flip"]
SMALL = GeoAwareParams(patches=4)


def opened(root: Path, params: GeoAwareParams = SMALL) -> GeoAwareTree:
    return GeoAwareTree(root, params, weights="unknown", dtype="fp16")


def test_the_published_shapes() -> None:
    """GeoAware-SC specs §1.6: 6.51 million values, 26.0 MB in single precision."""
    shapes = {layer.name: (layer.channels, *layer.grid) for layer in tree_layers(60)}
    assert shapes == {
        "sd.s5": (1280, 15, 15),
        "sd.s4": (1280, 30, 30),
        "sd.s3": (640, 60, 60),
        "dino": (768, 60, 60),
    }
    assert 4 * sum(layer.channels * layer.grid[0] * layer.grid[1] for layer in tree_layers(60)) == 26_035_200


def test_the_spec(tree: Path) -> None:
    spec = opened(tree, GeoAwareParams()).spec
    assert (spec.backbone, spec.weights, spec.options) == ("geoaware-import", "unknown", {"source": "geoaware"})
    assert (spec.input_size, spec.fit, spec.timesteps, spec.dtype) == ((960, 960), "letterbox", (50,), "fp16")


def test_every_image_and_its_mirror_image(tree: Path) -> None:
    source = opened(tree)
    assert isinstance(source, Source)
    assert (source.ids, source.refused) == (IDS, [])
    for image_id in IDS:
        plain, mirrored = image_id.removesuffix("@flip"), image_id.endswith("@flip")
        files = {kind: tree / f"{plain}_{kind}{'_flip' if mirrored else ''}.pt" for kind in ("sd", "dino")}
        saved = {kind: torch.load(path, map_location="cpu") for kind, path in files.items()}
        maps = source.read(image_id)
        assert list(maps) == ["sd.s5", "sd.s4", "sd.s3", "dino"]
        for key in ("s5", "s4", "s3"):
            assert torch.equal(maps[f"sd.{key}"].float(), saved["sd"][key])
        assert torch.equal(maps["dino"].float(), saved["dino"])


def test_deeper_and_flatter_trees(tree: Path) -> None:
    """AP-10K has a folder more, PF-Pascal none."""
    (tree / "canidae").mkdir()
    shutil.move(tree / "dog", tree / "canidae")
    for kind in ("sd", "dino"):
        shutil.copy(tree / f"cat/2008_000001_{kind}.pt", tree / f"2008_000001_{kind}.pt")
    assert opened(tree).ids == ["2008_000001", "canidae/dog/2009_001225", "canidae/dog/2009_001225@flip", *IDS[:2]]


def test_missing_partners_are_named_and_the_rest_is_there(tree: Path) -> None:
    (tree / "cat/2008_000001_dino.pt").unlink()
    (tree / "dog/2009_001225_sd_flip.pt").unlink()
    source = opened(tree)
    assert source.ids == ["cat/2008_000001@flip", "dog/2009_001225"]
    assert source.refused == [
        f"{tree}/cat/2008_000001_dino.pt is missing",
        f"{tree}/dog/2009_001225_sd_flip.pt is missing",
    ]


def test_names_that_look_like_suffixes(tmp_path: Path) -> None:
    for name in ("a_sd", "b_flip", "c_dino_flip"):
        for kind in ("sd", "dino"):
            torch.save(0, tmp_path / f"{name}_{kind}.pt")
    assert opened(tmp_path).ids == ["a_sd", "b_flip", "c_dino_flip"]


def test_a_turned_copy_keeps_its_ids_name(tree: Path, tmp_path: Path) -> None:
    source, target = opened(tree), GeoAwareFiles(tmp_path / "out", opened(tree).spec)
    target.write("cat/2008_000001@rot90", source.read(IDS[0]), image_crc32c=0)
    assert (tmp_path / "out/cat/2008_000001@rot90_sd.pt").is_file()
    assert opened(tmp_path / "out").ids == ["cat/2008_000001@rot90"]


def test_wrong_shapes_are_named(tree: Path) -> None:
    torch.save(torch.zeros(1, 768, 31, 31), tree / "cat/2008_000001_dino.pt")
    with pytest.raises(StoreError, match=r"2008_000001_dino\.pt is 1 x 768 x 31 x 31, not 1 x 768 x 4 x 4"):
        opened(tree).read(IDS[0])
    with pytest.raises(StoreError, match=r"2009_001225_sd\.pt, 's5', is 1 x 1280 x 1 x 1, not 1 x 1280 x 15 x 15"):
        opened(tree, GeoAwareParams()).read(IDS[2])
    torch.save({"s5": torch.zeros(1)}, tree / "cat/2008_000001_sd.pt")
    with pytest.raises(StoreError, match=r"2008_000001_sd\.pt is no dict with the keys s5, s4 and s3"):
        opened(tree).read(IDS[0])


def test_damage_is_named(tree: Path) -> None:
    path = tree / "cat/2008_000001_sd.pt"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(StoreError, match=r"2008_000001_sd\.pt is cut short"):
        opened(tree).read(IDS[0])
    path.write_bytes(content[: len(content) // 2] + b"?" + content[len(content) // 2 + 1 :])
    with pytest.raises(StoreError, match=r"2008_000001_sd\.pt is damaged"):
        opened(tree).read(IDS[0])


def test_no_tree(tmp_path: Path) -> None:
    (tmp_path / "embeddings.pt").write_bytes(b"")
    with pytest.raises(StoreError, match=r"holds no <category>/<name>_sd\.pt or _dino\.pt"):
        opened(tmp_path)
    with pytest.raises(StoreError, match="nowhere is not a folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="patches must be at least 1"):
        GeoAwareParams(patches=0)


def test_a_tree_written_is_the_tree_read(tree: Path, tmp_path: Path) -> None:
    source, out = opened(tree), tmp_path / "out"
    target = GeoAwareFiles(out, source.spec)
    assert isinstance(target, Target)
    assert target.missing(IDS) == IDS
    for image_id in IDS:
        target.write(image_id, source.read(image_id), image_crc32c=0)
    files = sorted(path.relative_to(tree) for path in tree.rglob("*.pt"))
    assert sorted(path.relative_to(out) for path in out.rglob("*.pt")) == files
    for name in files:
        written = torch.load(out / name)  # on a machine without a GPU
        read = torch.load(tree / name, map_location="cpu")
        for ours, theirs in zip(*(x.values() if isinstance(x, dict) else [x] for x in (written, read)), strict=True):
            assert ours.dtype == theirs.dtype == torch.float32
            assert ours.is_contiguous()
            assert ours.untyped_storage().nbytes() == ours.nbytes
            assert torch.equal(ours, theirs)
        assert not isinstance(written, dict) or list(written) == ["s5", "s4", "s3"]
    (out / "cat/2008_000001_sd.pt").write_bytes(b"PK")
    (out / "dog/2009_001225_dino_flip.pt").unlink()
    assert GeoAwareFiles(out, source.spec).missing(IDS) == [IDS[0], IDS[3]]


def test_a_tree_of_other_features_is_left_alone(tree: Path, tmp_path: Path) -> None:
    source, out = opened(tree), tmp_path / "out"
    GeoAwareFiles(out, source.spec).write(IDS[0], source.read(IDS[0]), image_crc32c=0)
    with pytest.raises(StoreError, match="out holds an export of other features"):
        GeoAwareFiles(out, replace(source.spec, weights="others"))
    with pytest.raises(StoreError, match="features holds something that is no export of these features"):
        GeoAwareFiles(tree, source.spec)
    with pytest.raises(StoreError, match=r"2008_000001_sd\.pt is a file"):
        GeoAwareFiles(tree / "cat/2008_000001_sd.pt", source.spec)


def test_what_a_tree_cannot_hold(tree: Path, tmp_path: Path) -> None:
    spec = opened(tree).spec
    with pytest.raises(StoreError, match=r"lack layers of a GeoAware-SC tree: sd\.s4 \(1280 x 2 x 2\)"):
        GeoAwareFiles(tmp_path / "out", replace(spec, layers=(spec.layers[0], *spec.layers[2:])))
    with pytest.raises(StoreError, match=r"lack layers .* dino \(768 x 60 x 60\)\. Try --format hdf5"):
        GeoAwareFiles(tmp_path / "out", replace(spec, layers=spec.layers[:3]))
    with pytest.raises(StoreError, match="holds one timestep, this store 2"):
        GeoAwareFiles(tmp_path / "out", replace(spec, timesteps=(0, 50)))
    target = GeoAwareFiles(tmp_path / "out", spec)
    for image_id in ("../a", "/a", "cat/../../a"):
        with pytest.raises(StoreError, match="cannot be a file below"):
            target.missing([image_id])

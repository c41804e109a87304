"""Where the makers have put their datasets: every line of the table is complete and leads to a tree that opens."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from dataset_trees import DRAWN, of_animals

from matchkit.extract.datasets import DATASETS, open_dataset
from matchkit.extract.datasets.download.sources import ARCHIVES, SOURCES, RemoteFile
from matchkit.pipelines.download import Ways, download


def packed_as(file: RemoteFile, tree: Path) -> bytes:
    """The files of a tree where an archive, or a file that is none, has them."""
    files = {}
    for path in (path for path in sorted(tree.rglob("*")) if path.is_file()):
        name = path.relative_to(tree).as_posix()
        keys = [key for key, place in file.places.items() if name == place or (key[-1] == "/" and fits(name, place))]
        if keys:
            # what two places share are photographs of the first, and masks of the last
            key = keys[0] if path.suffix == ".jpg" else keys[-1]
            rest = name.removeprefix(f"{file.places[key]}/") if key[-1] == "/" else ""
            files[key + rest] = path.read_bytes()
    if not file.is_archive:
        (body,) = files.values()
        return body
    body = io.BytesIO()
    if file.name.endswith(".zip"):
        with zipfile.ZipFile(body, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return body.getvalue()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return body.getvalue()


def fits(name: str, place: str) -> bool:
    return not place or name.startswith(f"{place}/")


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.files])
def test_every_dataset_goes_to_where_it_opens(
    name: str, spair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed as its makers pack it, so far as the table knows, and downloaded, it is the tree that was packed."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    tree = (of_animals if name == "ap10k" else DRAWN[name])(spair_tree)
    if name == "pf-pascal":
        for path in list(tree.rglob("*_pairs_pf_pascal.csv")):
            path.rename(tree / path.name.replace("_pf_pascal", ""))
    (project / "mine").mkdir()
    for file in SOURCES[name].files:
        (project / "mine" / file.name).write_bytes(packed_as(file, tree))
    if SOURCES[name].borrowed:
        (project / "data/spair").mkdir(parents=True)
        (project / "data/spair/JPEGImages").symlink_to(spair_tree / "JPEGImages")
    pinned = [f"{path.name}={hashlib.sha256(path.read_bytes()).hexdigest()}" for path in (project / "mine").iterdir()]
    made = download(name, pinned=pinned, ways=Ways(archives=project / "mine"))
    found, packed = open_dataset(name, made.root), open_dataset(name, tree)
    assert list(found.images) == list(packed.images)
    assert {split: len(found.pairs(split)) for split in found.splits} == {
        split: len(packed.pairs(split)) for split in packed.splits
    }


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_a_dataset_and_complete(name: str) -> None:
    source = SOURCES[name]
    assert name in DATASETS.table()
    assert source.page.startswith("https://")
    assert source.licence
    assert bool(source.by_hand) == (not all(file.url for file in source.files) or not source.files)
    for file in source.files:
        assert not file.url or (file.url.startswith("https://") and file.url.endswith(f"/{file.name}"))
        assert file.places
        assert file.is_archive == file.name.endswith(ARCHIVES)
        if file.checksum is not None:
            algorithm, _, digest = file.checksum.partition(":")
            assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size

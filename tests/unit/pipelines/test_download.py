"""Downloading datasets by their verb: complete or absent, once, the known files, and open in the end."""

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from filelock import FileLock
from PIL import Image

from matchkit.cli.datasets import datasets
from matchkit.core.errors import ConfigError, DatasetError, UnknownNameError
from matchkit.extract.datasets import open_dataset
from matchkit.extract.datasets.download.archives import ArchiveError
from matchkit.extract.datasets.download.sources import SOURCES
from matchkit.pipelines.download import Downloaded, Ways, download

ROOT = Path("data/spair")
ARCHIVE = "SPair-71k.tar.gz"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def packed(spair_tree: Path) -> bytes:
    """The drawn tree as SPair-71k is packed, with what else lies in such archives."""
    return packed_tree(spair_tree, "SPair-71k", {"SPair-71k/devkit/README": b"devkit", "._SPair-71k": b"litter"})


@pytest.fixture
def server(file_server: Any, packed: bytes) -> Any:
    """A mirror that has it."""
    file_server.files[f"/{ARCHIVE}"] = packed
    return file_server


def packed_tree(tree: Path, top: str, also: Mapping[str, bytes]) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as archive:
        archive.add(tree, arcname=top)
        for name, content in also.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return body.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return body.getvalue()


def hex_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def from_mirror(server: Any, name: str = "spair", **options: Any) -> Downloaded:
    return download(name, ways=Ways(mirror=f"{server.endpoint}/", schemes=("http",), pause=0.0), **options)


def record(root: Path = ROOT) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((root / "download.json").read_text())
    return held


def test_a_downloaded_dataset_opens(server: Any, packed: bytes, project: Path) -> None:
    made = from_mirror(server, pinned=[hex_of(packed)])
    assert made == Downloaded(ROOT, record()["files"][0]["files"], {ARCHIVE: hex_of(packed)})
    data = open_dataset("spair")
    assert list(data.images) == ["cat/2007_000001", "cat/2007_000002", "dog/2008_000003"]
    assert [len(data.pairs(split)) for split in data.splits] == [2, 1, 1]
    assert (ROOT / "devkit" / "README").read_bytes() == b"devkit"
    assert not list(ROOT.rglob("._*"))
    assert [path.name for path in (project / "data").iterdir()] == ["spair"]


def test_the_record_says_what_the_tree_is_made_of(server: Any, packed: bytes) -> None:
    made = from_mirror(server, pinned=[hex_of(packed)])
    (file,) = record()["files"]
    assert (record()["dataset"], record()["page"]) == ("spair", SOURCES["spair"].page)
    assert record()["licence"] == SOURCES["spair"].licence
    assert file["url"] == f"{server.endpoint}/{ARCHIVE}"
    assert (file["name"], file["size"], file["sha256"]) == (ARCHIVE, len(packed), hex_of(packed))
    found = [path for path in ROOT.rglob("*") if path.is_file() and path.name != "download.json"]
    assert made.files == file["files"] == len(found)


def test_a_second_run_asks_for_nothing_and_changes_nothing(server: Any, packed: bytes) -> None:
    made = from_mirror(server, pinned=[hex_of(packed)])
    before = {path: path.stat().st_mtime_ns for path in ROOT.rglob("*")}
    assert from_mirror(server) == from_mirror(server, pinned=[hex_of(packed)]) == made
    assert len(server.seen) == 1
    assert {path: path.stat().st_mtime_ns for path in ROOT.rglob("*")} == before
    assert sorted(path.name for path in ROOT.parent.iterdir()) == ["spair"]


def test_a_second_run_with_another_hash_is_refused(server: Any, packed: bytes) -> None:
    from_mirror(server, pinned=[hex_of(packed)])
    with pytest.raises(DatasetError, match=rf"data/spair was made of a {ARCHIVE} .* {hex_of(packed)}, not 0{{64}}"):
        from_mirror(server, pinned=["0" * 64])


def test_another_file_than_the_published_one_is_refused(server: Any, project: Path) -> None:
    with pytest.raises(DatasetError, match=r"instead of the 226,961,117 that are known"):
        from_mirror(server)
    assert not ROOT.exists()


def test_a_hash_that_does_not_fit_leaves_nothing(server: Any, project: Path) -> None:
    with pytest.raises(DatasetError, match="does not match"):
        from_mirror(server, pinned=["0" * 64])
    assert list((project / "data").iterdir()) == []


def test_a_run_that_was_cut_off_goes_on(server: Any, spair_tree: Path) -> None:
    noise = hashlib.shake_256(b"").digest(300_000)
    server.files[f"/{ARCHIVE}"] = body = packed_tree(spair_tree, "SPair-71k", {"SPair-71k/noise": noise})
    server.cuts = [200_000] + [0] * 4
    with pytest.raises(DatasetError, match="What arrived is kept"):
        from_mirror(server, pinned=[hex_of(body)])
    assert not ROOT.exists()
    before = server.sent
    from_mirror(server, pinned=[hex_of(body)])
    assert server.sent - before <= len(body) - 200_000 + (1 << 16)


@pytest.mark.parametrize("moment", ["unpack", "write_record", "open_dataset"])
def test_a_run_that_was_killed_leaves_no_half_tree_and_asks_for_nothing_twice(
    server: Any, packed: bytes, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"matchkit.pipelines.download.{moment}", killed)
        with pytest.raises(KeyboardInterrupt):
            from_mirror(server, pinned=[hex_of(packed)])
    assert ROOT.exists() == (moment == "open_dataset")
    from_mirror(server, pinned=[hex_of(packed)])
    assert len(server.seen) == 1
    assert len(open_dataset("spair").images) == 3
    assert [path.name for path in ROOT.parent.iterdir()] == ["spair"]


def test_a_kill_between_the_two_renames_loses_nothing(server: Any, packed: bytes) -> None:
    from_mirror(server, pinned=[hex_of(packed)])
    (ROOT.parent / ".spair.download").mkdir()
    ROOT.rename(ROOT.parent / ".spair.download/old")
    server.statuses = [404]
    assert from_mirror(server, pinned=[hex_of(packed)]).root == ROOT
    assert server.seen == [(f"/{ARCHIVE}", "")]


def test_a_kill_at_the_very_end_is_tidied_up_after(server: Any, packed: bytes) -> None:
    from_mirror(server, pinned=[hex_of(packed)])
    (ROOT.parent / ".spair.download/old").mkdir(parents=True)
    (ROOT.parent / ".spair.download" / ARCHIVE).write_bytes(packed)
    from_mirror(server)
    assert len(server.seen) == 1
    assert [path.name for path in ROOT.parent.iterdir()] == ["spair"]


def test_a_damaged_archive_is_thrown_away_and_fetched_again(server: Any, packed: bytes) -> None:
    damaged = packed[:-200]
    server.files[f"/{ARCHIVE}"] = damaged
    with pytest.raises(ArchiveError, match="is no archive, or a damaged one"):
        from_mirror(server, pinned=[hex_of(damaged)])
    assert list(ROOT.parent.iterdir()) == []
    server.files[f"/{ARCHIVE}"] = packed
    from_mirror(server, pinned=[hex_of(packed)])


def test_replacing_keeps_the_old_one_until_the_new_one_is_there(server: Any, packed: bytes) -> None:
    from_mirror(server, pinned=[hex_of(packed)])
    (ROOT / "mine").touch()
    server.statuses = [404]
    with pytest.raises(DatasetError, match="404"):
        from_mirror(server, pinned=[hex_of(packed)], replace=True)
    assert (ROOT / "mine").exists()
    from_mirror(server, pinned=[hex_of(packed)], replace=True)
    assert not (ROOT / "mine").exists()
    assert [path.name for path in ROOT.parent.iterdir()] == ["spair"]


@pytest.mark.parametrize("replace", [False, True])
def test_what_was_not_downloaded_never_gives_way(server: Any, packed: bytes, *, replace: bool) -> None:
    ROOT.mkdir(parents=True)
    (ROOT / "thesis.tex").touch()
    with pytest.raises(DatasetError, match="data/spair was not downloaded, so it stays as it is"):
        from_mirror(server, pinned=[hex_of(packed)], replace=replace)
    assert [path.name for path in ROOT.iterdir()] == ["thesis.tex"]
    assert server.seen == []


def test_an_empty_folder_is_filled(server: Any, packed: bytes) -> None:
    ROOT.mkdir(parents=True)
    from_mirror(server, pinned=[hex_of(packed)])
    assert len(open_dataset("spair").images) == 3


def test_two_at_once_are_refused(server: Any, packed: bytes) -> None:
    work = ROOT.parent / ".spair.download"
    work.mkdir(parents=True)
    with FileLock(work / "lock"), pytest.raises(DatasetError, match="is being downloaded by another process"):
        from_mirror(server, pinned=[hex_of(packed)])
    from_mirror(server, pinned=[hex_of(packed)])


def picture() -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (50, 60)).save(body, "png")
    return body.getvalue()


WILLOW = {**{f"PF-dataset/car(G)/{name}.png": picture() for name in "ab"}, "__MACOSX/PF-dataset/._a": b"x"}


@pytest.fixture
def willow(file_server: Any) -> Any:
    """A mirror of a dataset of two files, whose hashes nobody has published."""
    numbers = ",".join(str(n) for n in range(1, 41))
    names = ",".join(["imageA", "imageB", *(f"{axis}{side}{n}" for side in "AB" for axis in "XY" for n in range(10))])
    rows = f"{names}\nPF-dataset/car(G)/a.png,PF-dataset/car(G)/b.png,{numbers}\n"
    file_server.files = {"/PF-dataset.zip": zipped(WILLOW), "/test_pairs.csv": rows.encode()}
    return file_server


def test_several_files_make_one_tree(willow: Any) -> None:
    made = from_mirror(willow, "pf-willow")
    assert {path.relative_to(made.root).as_posix() for path in made.root.rglob("*") if path.is_file()} == {
        *("PF-dataset/car(G)/a.png", "PF-dataset/car(G)/b.png", "test_pairs.csv", "download.json")
    }
    assert made.sha256 == {path[1:]: hex_of(body) for path, body in willow.files.items()}
    assert made.files == 3


def test_an_unknown_hash_is_recorded_at_first_and_checked_from_then_on(
    willow: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = from_mirror(willow, "pf-willow")
    digest = hex_of(willow.files["/PF-dataset.zip"])
    assert f"PF-dataset.zip: SHA-256 {digest} (not known before; recorded)" in caplog.messages
    willow.files["/PF-dataset.zip"] = zipped(WILLOW | {"PF-dataset/car(G)/c.png": picture()})
    other = hex_of(willow.files["/PF-dataset.zip"])
    with pytest.raises(DatasetError, match=f"expected sha256:{digest} but got {other}"):
        from_mirror(willow, "pf-willow", replace=True)
    assert record(made.root)["files"][0]["sha256"] == digest
    assert (
        from_mirror(willow, "pf-willow", pinned=[f"PF-dataset.zip={other.upper()}"], replace=True).sha256[
            "PF-dataset.zip"
        ]
        == other
    )


@pytest.mark.parametrize(
    "told", ["abc", "0" * 64, "PF-dataset.zip=abc", f"other.zip={'0' * 64}", f"PF-dataset.zip={'g' * 64}"]
)
def test_a_hash_that_is_none_or_of_no_file(told: str) -> None:
    with pytest.raises(ConfigError, match=rf"--sha256 {told}: give FILE=HEX.* of pf-willow: PF-dataset.zip, test_pai"):
        download("pf-willow", pinned=[told])


def test_a_tree_that_does_not_open_says_why(file_server: Any, tmp_path: Path) -> None:
    file_server.files["/SPair-71k.tar.gz"] = body = packed_tree(
        tmp_path / "project", "SPair-71k", {"SPair-71k/a": b"a"}
    )
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"holds what was downloaded, but it does not open: .*JPEGImages"):
            from_mirror(file_server, pinned=[hex_of(body)])
    assert len(file_server.seen) == 1


def test_borrowed_folders_are_linked(server: Any, packed: bytes, spair_tree: Path, tmp_path: Path) -> None:
    for folder in ("JPEGImages", "Layout"):
        shutil.rmtree(spair_tree / folder)
    files = {f"datasets/SPair-U/{path.relative_to(spair_tree)}": path for path in spair_tree.rglob("*.json")}
    server.files["/SPair-U.zip"] = zipped({name: path.read_bytes() for name, path in files.items()})
    with pytest.raises(DatasetError, match=r"uses JPEGImages of spair, .* Run: matchkit datasets download spair"):
        from_mirror(server, "spair-u")
    from_mirror(server, pinned=[hex_of(packed)])
    from_mirror(server, "spair-u")
    assert Path("data/spair-u/JPEGImages").readlink() == Path("../spair/JPEGImages")
    assert all(image.path.is_file() for image in open_dataset("spair-u").images.values())


def test_archives_that_are_there_already_are_used(packed: bytes, project: Path) -> None:
    (project / "mine").mkdir()
    (project / "mine" / ARCHIVE).write_bytes(packed)
    made = download("spair", pinned=[hex_of(packed)], ways=Ways(archives=project / "mine"))
    assert record()["files"][0]["url"] == ""
    assert len(open_dataset("spair", made.root).images) == 3
    assert (project / "mine" / ARCHIVE).read_bytes() == packed


def test_an_archive_of_ones_own_is_checked_and_never_removed(project: Path) -> None:
    (project / "mine").mkdir()
    path = project / "mine" / ARCHIVE
    path.write_bytes(b"<html>")
    with pytest.raises(DatasetError, match="has 6 bytes instead of the 226,961,117"):
        download("spair", ways=Ways(archives=project / "mine"))
    with pytest.raises(ArchiveError, match="is no archive"):
        download("spair", pinned=[hex_of(b"<html>")], ways=Ways(archives=project / "mine"))
    assert path.exists()


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.by_hand and source.files])
def test_what_no_program_may_fetch_says_where_to_ask_and_where_to_put_it(name: str, project: Path) -> None:
    told = CliRunner().invoke(datasets, ["download", name])
    assert told.exit_code == 1
    source = SOURCES[name]
    for mention in (source.files[0].name, source.by_hand, source.page, f"datasets download {name} --archives FOLDER"):
        assert mention in told.stderr
    assert list((project / "data").iterdir()) == []


def test_what_needs_an_agreement_says_so(project: Path) -> None:
    told = CliRunner().invoke(datasets, ["download", "deepfashion"])
    assert told.exit_code == 1
    for mention in ("signed agreement", "data/deepfashion", SOURCES["deepfashion"].page):
        assert mention in told.stderr
    assert list(project.iterdir()) == []


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match=r"'spare' cannot be downloaded\. Did you mean 'spair'"):
        download("spare")
    with pytest.raises(UnknownNameError, match="matchkit datasets make"):
        download("toy")


def test_the_verb_takes_https_alone(project: Path) -> None:
    for url in ("http://127.0.0.1:9", "file:///tmp", "ftp://somewhere"):
        told = CliRunner().invoke(datasets, ["download", "spair", "--mirror", url])
        assert (told.exit_code, "begins with https://" in told.stderr) == (1, True)


def test_the_verb_ends_with_one_line(packed: bytes, project: Path) -> None:
    (project / "mine").mkdir()
    (project / "mine" / ARCHIVE).write_bytes(packed)
    options = ["--archives", "mine", "--sha256", hex_of(packed), "--root", "elsewhere/spair"]
    told = CliRunner().invoke(datasets, ["download", "spair", *options])
    assert told.exit_code == 0, told.stderr
    files = record(Path("elsewhere/spair"))["files"][0]["files"]
    assert told.stdout == f"elsewhere/spair: {files} files; SHA-256: {ARCHIVE} {hex_of(packed)}\n"
    told = CliRunner().invoke(datasets, ["download", "spair", *options, "--json"])
    assert json.loads(told.stdout) == {
        **{"root": "elsewhere/spair", "files": files, "sha256": {ARCHIVE: hex_of(packed)}}
    }


def test_a_record_that_is_none(project: Path) -> None:
    ROOT.mkdir(parents=True)
    (ROOT / "download.json").write_text('{"dataset": "spair"}')
    with pytest.raises(DatasetError, match=r"data/spair/download\.json is not what a download writes: licence"):
        download("spair")

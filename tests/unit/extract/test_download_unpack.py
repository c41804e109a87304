"""Archives as they should be, and every one that should never have been packed: nothing gets out, nothing stays."""

import gzip
import io
import shutil
import stat
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.download import archives, unpack
from matchkit.extract.datasets.download.archives import ArchiveError, entries
from matchkit.extract.datasets.download.unpack import portable

ALL = {"": ""}
KINDS = (".zip", ".tar.gz", ".tgz")
Packer = Callable[[Path, Mapping[str, bytes]], Path]


def pack(folder: Path, files: Mapping[str, bytes], kind: str = ".zip") -> Path:
    """An archive outside of the tree that it is unpacked into."""
    path = folder / f"archive{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as held:
            for name, body in files.items():
                held.writestr(name, body)
        return path
    with tarfile.open(path, "w:gz") as held_:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            held_.addfile(member, io.BytesIO(body))
    return path


def pack_members(folder: Path, *members: tarfile.TarInfo) -> Path:
    path = folder / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as held:
        for member in members:
            held.addfile(member, io.BytesIO(b"." * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, to, size
    return made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Where to unpack; what is beside it must stay as it is."""
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def held(tree: Path) -> dict[str, bytes]:
    return {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def refused(archive: Path, tree: Path, *mentions: str, places: Mapping[str, str] | None = None) -> None:
    """It is refused, and nothing was written, in the tree or beside it."""
    beside = sorted(archive.parent.iterdir())
    with pytest.raises(ArchiveError) as caught:
        unpack.unpack(archive, tree, ALL if places is None else places)
    for mention in (str(archive), *mentions):
        assert mention in str(caught.value)
    assert held(tree) == {}
    assert sorted(archive.parent.iterdir()) == beside


@pytest.mark.parametrize("kind", KINDS)
def test_files_go_to_their_places(tmp_path: Path, tree: Path, kind: str) -> None:
    files = {
        **{"set/a/x.jpg": b"x" * 5000, "set/b/y.jpg": b"", "other/a/z.jpg": b"z", "README": b"r"},
        **{"deep/down/list.csv": b"l", "__MACOSX/set/a/._x.jpg": b"m", "set/.DS_Store": b"d", "set/a/._x.jpg": b"a"},
    }
    archive = pack(tmp_path, files, kind)
    told: list[tuple[int, int]] = []
    places = {"set/": "", "other/a/": "more/of/it", "list.csv": "pairs.csv"}
    counts = unpack.unpack(archive, tree, places, progress=lambda *x: told.append(x))
    assert held(tree) == {
        **{"a/x.jpg": b"x" * 5000, "b/y.jpg": b"", "more/of/it/z.jpg": b"z", "pairs.csv": b"l"},
    }
    assert counts == unpack.Unpacked(files=4, size=sum(map(len, files.values())), left_out=4, renamed=0)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["./a/x", ".//a/x", "a//x", "a/./x"])
def test_a_name_is_brought_to_its_plainest_form(tmp_path: Path, tree: Path, kind: str, name: str) -> None:
    unpack.unpack(pack(tmp_path, {name: b"x"}, kind), tree, {"a/": ""})
    assert held(tree) == {"x": b"x"}


def test_a_file_that_is_no_archive_goes_to_its_place(tmp_path: Path, tree: Path) -> None:
    (tmp_path / "test_pairs.csv").write_bytes(b"a,b\n")
    unpack.unpack(tmp_path / "test_pairs.csv", tree, {"test_pairs.csv": "lists/test.csv"})
    assert held(tree) == {"lists/test.csv": b"a,b\n"}
    assert (tmp_path / "test_pairs.csv").exists()


def test_folders_of_an_archive_are_no_files(tmp_path: Path, tree: Path) -> None:
    archive = pack(tmp_path, {"a/": b"", "a/x": b"x", "a/empty/": b""})
    assert unpack.unpack(archive, tree, ALL).files == 1
    archive = pack_members(tmp_path, member("./", tarfile.DIRTYPE), member("b", tarfile.DIRTYPE), member("b/x", size=2))
    assert unpack.unpack(archive, tree, ALL).files == 1
    assert held(tree) == {"a/x": b"x", "b/x": b".."}


def test_modes_and_owners_of_an_archive_do_not_count(tmp_path: Path, tree: Path) -> None:
    made = member("x", size=1)
    made.mode, made.uid = 0o6777, 12345
    unpack.unpack(pack_members(tmp_path, made), tree, ALL)
    (tmp_path / "own").touch()
    assert (tree / "x").stat().st_mode == (tmp_path / "own").stat().st_mode
    assert (tree / "x").stat().st_uid == (tmp_path / "own").stat().st_uid


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        *("../x", "a/../../x", "a/..", "..", "a/../x", "/x", "//x", "/", "a\\..\\x", "\\x", "C:/x", "c:\\x"),
        *("a/x\ny", "a/\x01"),
    ],
)
def test_a_name_that_leads_elsewhere(tmp_path: Path, tree: Path, kind: str, name: str) -> None:
    refused(pack(tmp_path, {"good": b"g", name: b"x"}, kind), tree, "a name that leads elsewhere", repr(name))


def test_a_name_with_a_nul_in_a_zip_is_not_cut_there(tmp_path: Path, tree: Path) -> None:
    archive = pack(tmp_path, {"a/x.jpg": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"a/x.jpg", b"a/x\0jpg"))
    refused(archive, tree, "a name that leads elsewhere")


@pytest.mark.parametrize(
    ("kind", "to", "what"),
    [
        (tarfile.SYMTYPE, "/etc", "a link"),
        (tarfile.SYMTYPE, "good", "a link"),
        (tarfile.LNKTYPE, "/etc/passwd", "a link"),
        (tarfile.LNKTYPE, "good", "a link"),
        (tarfile.FIFOTYPE, "", "a device or a pipe"),
        (tarfile.CHRTYPE, "", "a device or a pipe"),
        (tarfile.BLKTYPE, "", "a device or a pipe"),
    ],
)
def test_what_is_no_file_in_a_tar(tmp_path: Path, tree: Path, kind: bytes, to: str, what: str) -> None:
    refused(pack_members(tmp_path, member("good", size=1), member("bad", kind, to)), tree, f"'bad' is {what}")


@pytest.mark.parametrize(
    ("kind", "what"), [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "no plain file"), (stat.S_IFCHR, "no plain file")]
)
def test_what_is_no_file_in_a_zip(tmp_path: Path, tree: Path, kind: int, what: str) -> None:
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("good", b"g")
        info = zipfile.ZipInfo("bad")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        file.writestr(info, "/etc")
    refused(archive, tree, f"'bad' is {what}")


def test_even_what_has_no_place_must_be_harmless(tmp_path: Path, tree: Path) -> None:
    archive = pack_members(tmp_path, member("set/x", size=1), member("else", tarfile.SYMTYPE, "/etc"))
    refused(archive, tree, "'else' is a link", places={"set/": ""})


def test_an_encrypted_zip(tmp_path: Path, tree: Path) -> None:
    archive = pack(tmp_path, {"x": b"x"})
    body = bytearray(archive.read_bytes())
    body[body.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(body)
    refused(archive, tree, "'x' is encrypted")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb(tmp_path: Path, tree: Path, kind: str) -> None:
    archive = pack(tmp_path, {"good": b"g", "bomb": bytes(archives.SMALL)}, kind)
    assert archive.stat().st_size < archives.SMALL / 500
    refused(archive, tree, "holds more than 4,194,304 bytes", "to fill disks")


def test_a_bomb_in_what_has_no_place(tmp_path: Path, tree: Path) -> None:
    refused(pack(tmp_path, {"set/x": b"", "bomb": bytes(archives.SMALL + 1)}), tree, places={"set/": ""})


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_grows_with_the_archive(tmp_path: Path, tree: Path, kind: str) -> None:
    noise = np.random.default_rng(0).bytes(200_000)
    archive = pack(tmp_path, {"noise": noise, "flat": bytes(archives.SMALL)}, kind)
    assert unpack.unpack(archive, tree, ALL).size == 200_000 + archives.SMALL


def test_a_bomb_before_the_first_name_of_a_tar(tmp_path: Path, tree: Path) -> None:
    """A header of ten million letters for one short file."""
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as file:
        made = member("x", size=1)
        made.pax_headers = {"comment": "a" * 10_000_000}
        file.addfile(made, io.BytesIO(b"."))
    refused(archive, tree, "holds more than 4,194,304 bytes")


def test_a_bomb_after_the_last_file_of_a_tar(tmp_path: Path, tree: Path) -> None:
    archive = pack(tmp_path, {"x": b"x"}, ".tar.gz")
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()) + bytes(archives.SMALL)))
    refused(archive, tree, "holds more than 4,194,304 bytes")


def test_too_many_files(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path, {"a": b"", "b": b"", "c": b""})
    monkeypatch.setattr(unpack, "MOST_FILES", 2)
    refused(archive, tree, "holds more than")


@pytest.mark.parametrize("names", [("a/x", "a/x"), ("a/x", "./a//x")])
@pytest.mark.parametrize("kind", KINDS)
def test_two_files_of_one_name(tmp_path: Path, tree: Path, kind: str, names: tuple[str, str]) -> None:
    path = tmp_path / f"archive{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(path, "w") as file, pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)  # zipfile's own, about the name
            for name in names:
                file.writestr(name, b"x")
    else:
        pack_members(tmp_path, *(member(name, size=1) for name in names)).rename(path)
    refused(path, tree, "would be the second file at a/x")


def test_two_places_for_two_files_of_one_name(tmp_path: Path, tree: Path) -> None:
    archive = pack(tmp_path, {"images/x": b"i", "masks/x": b"m"})
    refused(archive, tree, "'masks/x' would be the second file at x", places={"images/": "", "masks/": ""})


@pytest.mark.parametrize("names", [("a", "a/x"), ("a/x", "a")])
def test_a_file_and_a_folder_of_one_name(tmp_path: Path, tree: Path, names: tuple[str, str]) -> None:
    archive = pack(tmp_path, dict.fromkeys(names, b"."))
    with pytest.raises(ArchiveError, match="would be the second file at a"):
        unpack.unpack(archive, tree, ALL)


def test_a_second_archive_never_writes_over_the_first(tmp_path: Path, tree: Path) -> None:
    unpack.unpack(pack(tmp_path, {"x": b"first"}), tree, ALL)
    with pytest.raises(ArchiveError, match="'x' would be the second file at x"):
        unpack.unpack(pack(tmp_path, {"x": b"second"}, ".tgz"), tree, ALL)
    assert held(tree) == {"x": b"first"}


def test_an_archive_of_another_layout(tmp_path: Path, tree: Path) -> None:
    archive = pack(tmp_path, {"SPair-72k/x": b"x", "list.csv": b""})
    refused(archive, tree, "holds no SPair-71k/:", places={"SPair-71k/": "", "list.csv": "list.csv"})
    refused(pack(tmp_path, {}), tree, "holds no files:")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body", [b"", b"<!DOCTYPE html><html>", b"PK\x05\x06", gzip.compress(b"no tar at all", mtime=0)]
)
def test_what_is_no_archive(tmp_path: Path, tree: Path, kind: str, body: bytes) -> None:
    archive = tmp_path / f"archive{kind}"
    archive.write_bytes(body)
    refused(archive, tree, "is no archive, or a damaged one", repr(body[:16]))


@pytest.mark.parametrize("kind", KINDS)
def test_any_damage_is_found(tmp_path: Path, tree: Path, kind: str) -> None:
    """Whatever bit is flipped and wherever it is cut: refused, or not a byte differs."""
    draw = np.random.default_rng(0)
    files = {f"set/{n}.jpg": draw.bytes(300) + b"a" * 300 for n in range(4)}
    archive = pack(tmp_path, files, kind)
    whole = archive.read_bytes()
    refusals = 0
    for place in draw.integers(0, len(whole), 25):
        cut = bytearray(whole)
        cut[place] ^= 1 << int(draw.integers(8))
        archive.write_bytes(cut if place % 3 else whole[:place])
        try:
            unpack.unpack(archive, tree, {"set/": ""})
            assert set(held(tree).values()) <= set(files.values())
        except ArchiveError:
            refusals += 1
        shutil.rmtree(tree)
        tree.mkdir()
    assert refusals > 15


def test_a_name_that_windows_does_not_take() -> None:
    assert portable("test/1-a-b:cat.json") == "test/1-a-b_cat.json"
    assert portable('a<b>"c|d?e*f/g') == "a_b__c_d_e_f/g"
    assert portable("a./b /c.d/e.") == "a_/b_/c.d/e_"
    assert portable("nul/com1.txt/console/aux") == "_nul/_com1.txt/console/_aux"
    assert portable("car(G)/a b.png") == "car(G)/a b.png"


def test_on_windows_colons_become_lines_and_are_counted(tmp_path: Path, tree: Path) -> None:
    archive = pack(tmp_path, {"s/1-a-b:cat.json": b"1", "s/x.json": b"2"}, ".tar.gz")
    counts = unpack.unpack(archive, tree, {"s/": "pairs"}, windows=True)
    assert held(tree) == {"pairs/1-a-b_cat.json": b"1", "pairs/x.json": b"2"}
    assert counts.renamed == 1


def test_on_other_disks_colons_stay(tmp_path: Path, tree: Path) -> None:
    counts = unpack.unpack(pack(tmp_path, {"1-a-b:cat.json": b"1"}), tree, ALL, windows=False)
    assert (held(tree), counts.renamed) == ({"1-a-b:cat.json": b"1"}, 0)


@pytest.mark.parametrize("names", [("a:b", "a_b"), ("A.jpg", "a.jpg")])
def test_on_windows_two_names_may_be_one(tmp_path: Path, tree: Path, names: tuple[str, str]) -> None:
    archive = pack(tmp_path, dict.fromkeys(names, b"."))
    with pytest.raises(ArchiveError, match="would be the second file"):
        unpack.unpack(archive, tree, ALL, windows=True)
    assert held(tree) == {}
    assert unpack.unpack(archive, tree, ALL, windows=False).files == 2


def test_a_disk_without_room_is_found_before_the_first_file(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(tmp_path, {"a": bytes(1000), "b": bytes(2000)})
    usage, needed = namedtuple("usage", ["free"]), 3000 + 2 * unpack.BLOCK
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(needed - 1))
    with pytest.raises(DatasetError, match=r"11,191 bytes free, and what is in archive\.zip takes 11,192"):
        unpack.unpack(archive, tree, ALL)
    assert held(tree) == {}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(needed))
    assert unpack.unpack(archive, tree, ALL).files == 2


def test_a_disk_that_fills_up_is_no_fault_of_the_archive(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    archive = pack(tmp_path, {"a": b"a"})
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(DatasetError, match=r"a cannot be written: No space left on device. .*archive.zip is kept") as e:
        unpack.unpack(archive, tree, ALL)
    assert not isinstance(e.value, ArchiveError)


def test_entries_give_their_bytes_one_by_one(tmp_path: Path) -> None:
    for kind in KINDS:
        archive = pack(tmp_path, {"a": b"1", "b": b"22"}, kind)
        read = {}
        for entry in entries(archive):
            with entry.open() as file:
                read[entry.name, entry.size] = file.read()
        assert read == {("a", 1): b"1", ("b", 2): b"22"}

"""Several at once: writers who lose nothing of each other's, and readers who see the old maps or the new ones."""

import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from matchkit.cache.places.local import LocalPlace
from matchkit.cache.places.place import Piece
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

Maps = Mapping[str, torch.Tensor]
Draw = Callable[[FeatureSpec, int], Maps]
Same = Callable[[Maps, Maps], bool]
TWO = FeatureSpec(
    "pixels", "none", (LayerSpec("a", 4, (2, 2)), LayerSpec("b", 8, (4, 4))), (-1, 60), (32, 32), "stretch", "fp32"
)
WRITER = """if True:
    import sys

    import torch

    from matchkit.cache.store import FeatureStore

    part, ids = int(sys.argv[1]), [str(number) for number in range(48)]
    print("ready", flush=True)
    sys.stdin.readline()
    for root in sys.argv[2:]:
        spec = FeatureStore.open(root).spec
        store = FeatureStore.create(root, spec, [*ids, f"extra{part}"])
        shared = root.endswith("shared.zarr")
        for again in range(2):
            for number in ids[16 * part : 16 * part + 16] if shared else ids[part::3]:
                value = float(int(number) + 1000 * again)
                store.write(number, {x.name: torch.full((2, x.channels, *x.grid), value) for x in spec.layers})
            store.finalize()
        if part == 0 or not shared:
            store.write(f"extra{part}", {x.name: torch.full((2, x.channels, *x.grid), 7.0) for x in spec.layers})
        print("written", flush=True)
        sys.stdin.readline()
"""


class Writer(subprocess.Popen[str]):
    """A process that writes a third of 48 images of each store, and their last sixteen or every third of them."""

    def __init__(self, part: int, roots: Sequence[Path]) -> None:
        command = [sys.executable, "-P", "-c", WRITER, str(part), *map(str, roots)]
        super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def has_told(self, word: str) -> bool:
        assert self.stdout is not None
        return self.stdout.readline() == f"{word}\n"

    def go_on(self) -> None:
        print("", file=self.stdin, flush=True)


def constant(value: int) -> Maps:
    return {layer.name: torch.full((2, layer.channels, *layer.grid), float(value)) for layer in TWO.layers}


def test_three_processes_at_once_lose_nothing(tmp_path: Path, same: Same, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sixteen images share a shard file each process has sixteen of its own; else every third image."""
    roots = [tmp_path / "shared.zarr", tmp_path / "apart.zarr"]
    for root, small in zip(roots, (1 << 20, 0), strict=True):
        monkeypatch.setattr("matchkit.cache.layout.SMALL_SHARD", small)
        FeatureStore.create(root, TWO, ["0"]).close()
    readers = [FeatureStore.open(root) for root in roots]
    with ExitStack() as stack:
        writers = [stack.enter_context(Writer(part, roots)) for part in range(3)]
        for writer in writers:
            stack.callback(writer.kill)
            assert writer.has_told("ready")
        for root, reader in zip(roots, readers, strict=True):
            for writer in writers:
                writer.go_on()
            assert all(writer.has_told("written") for writer in writers)
            with FeatureStore.create(root, TWO, ["0"]) as store:
                for image_id in ("16", "extra0"):
                    with pytest.raises(
                        StoreError, match=r"images from row \d+ on are being written by another process"
                    ):
                        store.write(image_id, constant(0))
            extras = ["extra0"] if root == roots[0] else ["extra0", "extra1", "extra2"]
            for each in (reader, FeatureStore.open(root)):
                each.refresh()
                assert sorted(each.ids) == sorted([*map(str, range(48)), *extras])
                assert all(same(each.read(str(number)), constant(1000 + number)) for number in range(48))
                assert all(same(each.read(image_id), constant(7)) for image_id in extras)
        writers[1].send_signal(signal.SIGKILL)
        writers[1].wait()
        with FeatureStore.create(roots[1], TWO, ["0"]) as store:
            store.write("16", constant(5))  # was that of the dead
            with pytest.raises(StoreError, match="are being written by another process"):
                store.write("0", constant(0))
    for root, reader in zip(roots, readers, strict=True):
        with FeatureStore.create(root, TWO, ["0"]) as store:
            store.finalize()
        assert not [*root.glob("*/*.partial"), *root.glob("ledger/journal*")]
        assert same(reader.read("16"), constant(5 if root == roots[1] else 1016))
        assert FeatureStore.open(root).content == reader.content


def test_a_second_writer_at_the_same_shard_is_refused(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    shared = store._reader.arrays[0].images == 16
    with FeatureStore.create(str(store), spec, ["a"]) as other:
        attempts = [lambda: other.write("a", random_maps(spec, 9)), lambda: other.withdraw("b")]
        for attempt in attempts:
            with pytest.raises(StoreError, match=r"F\.zarr: images from row . on are being written by another process"):
                attempt()
        if shared:
            with pytest.raises(StoreError, match="images from row 0 on are being written"):
                other.write("d", random_maps(spec, 9))
        else:
            other.write("d", random_maps(spec, 9))
            assert same(store.read("d"), random_maps(spec, 9))
        store.close()
        for attempt in attempts:
            attempt()
    assert same(store.read("a"), random_maps(spec, 9))
    assert store.missing("ab") == ["b"]


class Between:
    """Does something when a reader has read a number of pieces."""

    def __init__(
        self, reader: FeatureStore, number: int, action: Callable[[], None], patch: pytest.MonkeyPatch
    ) -> None:
        assert isinstance(reader.place, LocalPlace)
        self._calls = itertools.count()
        self._number = number
        self._action = action
        self._fill = reader.place._fill
        patch.setattr(reader.place, "_fill", self)

    def __call__(self, piece: Piece) -> None:
        if next(self._calls) == self._number:
            self._action()
        self._fill(piece)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("finalized", [False, True])
def test_a_reader_sees_the_old_maps_or_the_new_ones(
    store: FeatureStore,
    spec: FeatureSpec,
    random_maps: Draw,
    same: Same,
    monkeypatch: pytest.MonkeyPatch,
    *,
    number: int,
    finalized: bool,
) -> None:
    if finalized:
        store.finalize()
    reader = FeatureStore.open(str(store))
    Between(reader, number, lambda: store.write("b", random_maps(spec, 50)), monkeypatch)
    assert same(reader.read("b"), random_maps(spec, 50 if number < 2 else 1))
    assert same(reader.read("b"), random_maps(spec, 50))


@pytest.mark.parametrize("spec", ["fp16"], indirect=True)
@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("calls", range(0, 48, 4))
def test_a_reader_sees_no_half_of_what_a_killed_writer_has_begun(
    store: FeatureStore,
    spec: FeatureSpec,
    random_maps: Draw,
    same: Same,
    failing: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    calls: int,
) -> None:
    """The writer dies at some call; another one, who lived before it began, writes the image and dies half-way too."""
    reader = FeatureStore.open(str(store))
    other = FeatureStore.create(str(store), spec, ["a"])

    def write_and_die(writer: FeatureStore, seed: int, calls: int) -> None:
        with failing(calls, 5):  # type: ignore[attr-defined]
            try:
                writer.write("b", random_maps(spec, seed))
            except StoreError:
                pass
            finally:
                writer.place.close()

    def both() -> None:
        write_and_die(store, 50, calls)
        write_and_die(other, 51, 48 - calls)

    Between(reader, number, both, monkeypatch)
    try:
        read = reader.read("b")
    except StoreError as error:
        assert "does not hold image 'b'" in str(error)  # noqa: PT017 - where both came far enough it is there
        assert FeatureStore.open(str(store)).missing(["b"]) == ["b"]
    else:
        assert any(same(read, random_maps(spec, seed)) for seed in (1, 50, 51))


def test_a_withdrawal_that_was_not_told_is_learnt_before_the_bytes_change(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between its line and its beat; the next writer, who is alive by then, has no line to write first."""
    reader = FeatureStore.open(str(store))
    other = FeatureStore.create(str(store), spec, ["a"])

    def killed() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.place, "beat", killed)
        with pytest.raises(KeyboardInterrupt):
            store.write("b", random_maps(spec, 50))
    store.place.close()
    seal = other._ledger.record
    seen: list[str] = []

    def looked(*arguments: object) -> None:  # all of the new bytes are there, and none of the ledger's lines
        with pytest.raises(StoreError, match="does not hold image 'b'"):
            reader.read("b")
        seen.append("absent")
        seal(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(other._ledger, "record", looked)
    other.write("b", random_maps(spec, 51))
    assert seen == ["absent"]
    assert same(reader.read("b"), random_maps(spec, 51))
    other.close()


@pytest.mark.parametrize("spec", ["fp16"], indirect=True)
def test_threads_read_one_store_while_it_is_written_and_folded(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matchkit.cache.ledger.ROWS", 4)
    reader = FeatureStore.open(str(store))
    drawn = [random_maps(spec, seed) for seed in range(6)]
    wrong: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for seed, image_id in ((0, "a"), (2, "c")):
                if not same(reader.read(image_id), drawn[seed]):
                    wrong.append(image_id)
            try:
                if not any(same(reader.read("b"), maps) for maps in drawn):
                    wrong.append("b")
            except StoreError as error:
                if "does not hold" not in str(error):
                    wrong.append(str(error))

    def watched() -> None:
        try:
            read()
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=watched) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(20):
        store.write("b", drawn[1 + number % 5])
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []

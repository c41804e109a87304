"""The store against a dictionary, through every order of writers, readers and kills between any two system calls."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from matchkit.cache import layout, ledger
from matchkit.cache.places import claims, local
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 2, (1, 2)), LayerSpec("up1.0", 1, (2, 3)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (-1, 460), (16, 16), "stretch", "fp16")
IDS = ("cat/a", "cat/b", "dog/c", "dog/d", "emu/e")
EXAMPLES = int(os.environ.get("MATCHKIT_EXAMPLES", "20"))
GROUP = 3
"""Images in a shard file of the first layer; the second has a file for each."""
CHANGES = ("open", "write", "pwrite", "fsync", "ftruncate", "replace", "unlink", "mkdir", "rmdir", "sendfile")
ids = st.sampled_from(IDS)
seeds = st.integers(0, 9)
moments = st.none() | st.integers(1, 60)
"""At which of its system calls something happens to an action, if it has so many."""
Draw = Callable[[FeatureSpec, int], Mapping[str, torch.Tensor]]


class Killed(BaseException):
    """What a kill looks like from within."""


class System:
    """The calls of `os` that change files: at one of them readers look, at another the process is killed.

    A killed process makes no more calls, whatever runs while the exception goes through, and its locks are free.
    Nothing is synced: a kill is no power cut.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._claims: list[claims.Claims] = []
        self._watched: Iterator[int] | None = None
        self._dead = False
        self._kill: int | None = None
        self._look: tuple[int | None, Callable[[], None]] = (None, lambda: None)
        self._half = False
        for name in CHANGES:
            patch.setattr(os, name, self._watch(name))
        patch.setattr(local, "Claims", self._claim)

    def _claim(self, path: Path) -> claims.Claims:
        self._claims.append(claims.Claims(path))
        return self._claims[-1]

    def _watch(self, name: str) -> Callable[..., Any]:
        real = (lambda _: None) if name == "fsync" else getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if self._dead:
                raise Killed
            if self._watched is not None:
                number = next(self._watched)
                if number == self._look[0]:
                    watched, self._watched = self._watched, None
                    self._look[1]()
                    self._watched = watched
                if number == self._kill:
                    self._dead = True
                    if self._half and name in ("write", "pwrite"):
                        real(arguments[0], arguments[1][: len(arguments[1]) // 2], *arguments[2:])
                    raise Killed
            return real(*arguments, **options)

        return call

    @contextmanager
    def until(
        self, kill: int | None, *, half: bool, look: tuple[int | None, Callable[[], None]] = (None, lambda: None)
    ) -> Iterator[list[str]]:
        """Runs something until the kill; yields a list that is empty as long as it was not killed."""
        self._watched, self._kill, self._half, self._look = itertools.count(1), kill, half, look
        killed: list[str] = []
        try:
            yield killed
        except Killed:
            killed.append("killed")
        finally:
            self._watched, self._dead = None, False
            if killed:
                for claim in self._claims:
                    claim.close()


def in_bytes(maps: Mapping[str, torch.Tensor]) -> bytes:
    return b"".join(maps[layer.name].contiguous().numpy().tobytes() for layer in LAYERS)


class StoreMachine(RuleBasedStateMachine):
    """`rows` are the ids with a row; `held` says by which seed the maps of each complete image were drawn.

    `before` says which other maps a reader that was there may still take for those of an image: the last writer was
    killed before it told. None stands for absent.
    """

    drawn: list[Mapping[str, torch.Tensor]]
    seeds: Mapping[bytes, int]
    system: System

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="matchkit-store-"))
        self.path = self.folder / "F.zarr"
        self.rows: list[str] = []
        self.held: dict[str, int] = {}
        self.before: dict[str, set[int | None]] = {}
        self.readers: list[FeatureStore] = []

    def teardown(self) -> None:
        for store in (self.store, *self.readers):
            store.close()
        shutil.rmtree(self.folder)

    def found(self, store: FeatureStore, image_id: str) -> int | None:
        """By which seed the maps were drawn that a store has of an image."""
        try:
            read = store.read(image_id)
        except StoreError as error:
            assert f"does not hold image '{image_id}'" in str(error)  # noqa: PT017 - most are there
            return None
        seed = self.seeds.get(in_bytes(read))
        assert seed is not None, f"'{image_id}' is a mixture, or was never written"
        return seed

    @initialize(wanted=st.lists(ids, unique=True), kill=moments, half=st.booleans())
    def create(self, wanted: list[str], kill: int | None, *, half: bool) -> None:
        with self.system.until(kill, half=half):
            FeatureStore.create(self.path, SPEC, [*wanted, "never"]).close()
        if not (self.path / "zarr.json").exists():
            FeatureStore.create(self.path, SPEC, wanted).close()
        self.reopen()

    @rule()
    def reopen(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        self.store = FeatureStore.create(self.path, SPEC, [])
        self.rows = list(self.store._rows)

    @rule(wanted=st.lists(ids, max_size=3), kill=moments, half=st.booleans())
    def extend(self, wanted: list[str], kill: int | None, *, half: bool) -> None:
        self.store.close()
        with self.system.until(kill, half=half) as killed:
            FeatureStore.create(self.path, SPEC, wanted).close()
        before, new = self.rows, [image_id for image_id in dict.fromkeys(wanted) if image_id not in self.rows]
        self.reopen()
        assert self.rows in ([before + new] if not killed else [before, before + new])

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), seed=seeds, kill=moments, look=moments, half=st.booleans())
    def write(self, data: st.DataObject, seed: int, kill: int | None, look: int | None, *, half: bool) -> None:
        image_id = data.draw(st.sampled_from(self.rows))
        maps = self.drawn[seed]
        self._change(image_id, seed, lambda: self.store.write(image_id, maps, image_crc32c=seed), kill, look, half=half)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), kill=moments, look=moments, half=st.booleans())
    def withdraw(self, data: st.DataObject, kill: int | None, look: int | None, *, half: bool) -> None:
        image_id = data.draw(st.sampled_from(sorted(self.held)))
        self._change(image_id, None, lambda: self.store.withdraw(image_id), kill, look, half=half)

    def _change(
        self,
        image_id: str,
        new: int | None,
        action: Callable[[], None],
        kill: int | None,
        look: int | None,
        *,
        half: bool,
    ) -> None:
        old = self.held.pop(image_id, None)
        known = {old, new, None} | self.before.pop(image_id, set())

        def looked() -> None:
            for reader in [*self.readers, FeatureStore.open(self.path)]:
                assert self.found(reader, image_id) in known
                reader.close() if reader not in self.readers else None

        with self.system.until(kill, half=half, look=(look, looked)) as killed:
            action()
        if killed:
            self.store = FeatureStore.create(self.path, SPEC, [])
            now = self.found(self.store, image_id)
            assert now in {old, new, None}
            self.before[image_id] = known
        else:
            now = new
        if now is not None:
            self.held[image_id] = now

    @rule(kill=moments, half=st.booleans())
    def finalize(self, kill: int | None, *, half: bool) -> None:
        with self.system.until(kill, half=half) as killed:
            self.store.finalize()
        if killed:
            self.store = FeatureStore.create(self.path, SPEC, [])
        else:
            assert not [*self.path.glob("*/*.partial"), *self.path.glob("ledger/journal.*")]

    @rule(kill=moments, half=st.booleans())
    def note(self, kill: int | None, *, half: bool) -> None:
        with self.system.until(kill, half=half) as killed:
            self.store.note("told", len(self.rows))
        if killed:
            self.store = FeatureStore.create(self.path, SPEC, [])
        assert self.store.notes in ([{"told": len(self.rows)}] if not killed else [self.store.notes])

    @precondition(lambda self: len(self.readers) < 3)
    @rule()
    def another_reader(self) -> None:
        self.readers.append(FeatureStore.open(self.path, SPEC))

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), seed=seeds)
    def a_second_writer(self, data: st.DataObject, seed: int) -> None:
        image_id = data.draw(st.sampled_from(self.rows))
        with FeatureStore.create(self.path, SPEC, []) as other:
            if self.rows.index(image_id) // GROUP in self.store._writer._claimed:
                with pytest.raises(StoreError, match="are being written by another process"):
                    other.write(image_id, self.drawn[seed])
            else:
                other.write(image_id, self.drawn[seed], image_crc32c=seed)
                self.held[image_id] = seed
                self.before.pop(image_id, None)

    @invariant()
    def equals_the_dictionary(self) -> None:
        self.store.refresh()
        fresh = FeatureStore.open(self.path, SPEC)
        for store in (self.store, fresh):
            assert store.ids == [image_id for image_id in self.rows if image_id in self.held]
            assert store.missing(IDS) == [image_id for image_id in IDS if image_id not in self.held]
            assert store.stale({image_id: -1 for image_id in IDS}) == [name for name in IDS if name in self.held]
            assert store.stale(self.held) == []
            for image_id in self.rows:
                assert self.found(store, image_id) == self.held.get(image_id)
        assert fresh.content == self.store.content
        for image_id in self.held:
            self.has_its_checksums(fresh, image_id)
        fresh.close()
        assert not list(self.path.glob(f"ledger/tmp.{self.store.place.writer}/*"))

    def has_its_checksums(self, store: FeatureStore, image_id: str) -> None:
        steps = [step for maps in store.read(image_id).values() for step in maps]
        found = tuple(google_crc32c.value(step.permute(1, 2, 0).contiguous().numpy()) for step in steps)
        assert found == store._ledger.checksums(store._rows[image_id])

    @invariant()
    def readers_who_were_there_know_it_too(self) -> None:
        for reader in self.readers:
            for image_id in self.rows:
                assert self.found(reader, image_id) in {self.held.get(image_id)} | self.before.get(image_id, set())


def test_the_store_equals_a_dictionary(random_maps: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SMALL_SHARD", 20)
    monkeypatch.setattr(layout, "SHARED", GROUP)
    monkeypatch.setattr(ledger, "ROWS", 4)
    with pytest.MonkeyPatch.context() as patch:
        drawn = [random_maps(SPEC, seed) for seed in range(10)]
        known = {in_bytes(maps): seed for seed, maps in enumerate(drawn)}
        members = {"drawn": drawn, "seeds": known, "system": System(patch)}
        machine = type("Machine", (StoreMachine,), members)
        # not shrunk: a run of twenty steps can be read as it is
        few = settings(max_examples=EXAMPLES, stateful_step_count=20, phases=[Phase.generate])
        run_state_machine_as_test(machine, settings=few)

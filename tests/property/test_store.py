"""The store against a dictionary, through every order of writes, kills and reopenings."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
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

from matchkit.cache.store import FeatureStore
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 2, (1, 2)), LayerSpec("up1.0", 1, (2, 3)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (-1, 460), (16, 16), "stretch", "fp16")
IDS = ("cat/a", "cat/b", "dog/c", "dog/d")
ids = st.sampled_from(IDS)
seeds = st.integers(0, 9)
Draw = Callable[[FeatureSpec, int], Mapping[str, torch.Tensor]]


class Killed(BaseException):
    """What a kill looks like from within."""


class StoreMachine(RuleBasedStateMachine):
    """`rows` are the ids with a row; `held` says by which seed the maps of each complete image were drawn."""

    random_maps: Draw

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="matchkit-store-"))
        self.path = self.folder / "F.zarr"
        self.rows: list[str] = []
        self.held: dict[str, int] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(wanted=st.lists(ids, unique=True))
    def create(self, wanted: list[str]) -> None:
        self.store = FeatureStore.create(self.path, SPEC, wanted)
        self.rows = list(wanted)

    @rule(wanted=st.lists(ids, max_size=3))
    def extend(self, wanted: list[str]) -> None:
        self.store = FeatureStore.create(self.path, SPEC, wanted)
        self.rows += [image_id for image_id in dict.fromkeys(wanted) if image_id not in self.rows]

    @rule()
    def reopen(self) -> None:
        self.store = FeatureStore.open(self.path, SPEC)

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), seed=seeds)
    def write(self, data: st.DataObject, seed: int) -> None:
        image_id = data.draw(st.sampled_from(self.rows))
        self.store.write(image_id, self.random_maps(SPEC, seed), image_crc32c=seed)
        self.held[image_id] = seed

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        image_id = data.draw(st.sampled_from(sorted(self.held)))
        self.store.withdraw(image_id)
        del self.held[image_id]

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), seed=seeds, layers=st.integers(0, len(LAYERS) - 1))
    def killed_between_layers(self, data: st.DataObject, seed: int, layers: int) -> None:
        """The maps of some layers, none or one, are new on the disk; the journal never heard of them."""
        image_id = data.draw(st.sampled_from(self.rows))
        renames = itertools.count()
        replace = Path.replace

        def dying(path: Path, target: Path) -> Path:
            if next(renames) == layers:
                raise Killed
            return replace(path, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", dying)
            with pytest.raises(Killed):
                self.store.write(image_id, self.random_maps(SPEC, seed))
        self.held.pop(image_id, None)
        self.reopen()

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), seed=seeds, withdrawing=st.booleans())
    def killed_within_the_journals_line(self, data: st.DataObject, seed: int, *, withdrawing: bool) -> None:
        """A write or withdrawal whose line is cut off at any byte, its newline among them, did not happen."""
        image_id = data.draw(st.sampled_from(self.rows))
        if not withdrawing and image_id in self.held:
            self.store.withdraw(image_id)
            del self.held[image_id]
        journal = self.path / "ledger" / "journal.jsonl"
        before = journal.read_bytes().rfind(b"\n") + 1 if journal.exists() else 0
        if withdrawing:
            self.store.withdraw(image_id)
        else:
            self.store.write(image_id, self.random_maps(SPEC, seed))
        whole = journal.read_bytes()
        journal.write_bytes(whole[: data.draw(st.integers(before, len(whole) - 1))])
        self.reopen()

    @invariant()
    def equals_the_dictionary(self) -> None:
        assert self.store.ids == [image_id for image_id in self.rows if image_id in self.held]
        assert self.store.missing(IDS) == [image_id for image_id in IDS if image_id not in self.held]
        assert self.store.verify() == []
        assert self.store.stale({image_id: -1 for image_id in IDS}) == [name for name in IDS if name in self.held]
        for image_id, seed in self.held.items():
            read = self.store.read(image_id)
            for layer, written in self.random_maps(SPEC, seed).items():
                np.testing.assert_array_equal(read[layer], written.numpy())


def test_the_store_equals_a_dictionary(random_maps: Draw) -> None:
    machine = type("Machine", (StoreMachine,), {"random_maps": staticmethod(random_maps)})
    # not shrunk: every step syncs to the disk, and a run of fifteen steps can be read as it is
    few = settings(max_examples=20, stateful_step_count=15, phases=[Phase.generate])
    run_state_machine_as_test(machine, settings=few)

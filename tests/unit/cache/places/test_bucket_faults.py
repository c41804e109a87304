"""A bucket that is full, or takes nothing more, in the middle of things: nothing is lost, nothing wrong is read."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from matchkit.cache.care.sweep import break_claims, clean
from matchkit.cache.care.verify import verify
from matchkit.cache.places import bucket
from matchkit.cache.places.bucket import BucketPlace
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

Maps = Mapping[str, torch.Tensor]
Draw = Callable[[FeatureSpec, int], Maps]
Same = Callable[[Maps, Maps], bool]
FULL = b"<Error><Code>QuotaExceeded</Code><Message>Your bucket is full</Message></Error>"
"""What Ceph answers with the status 403."""


@dataclass
class Quota:
    """Stands before the server; from the change number `left` on it refuses all, where `left` is not negative."""

    application: Callable[..., Iterable[bytes]]
    left: int = -1

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE"):
            if self.left == 0:
                start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(FULL)))])
                return [FULL]
            self.left -= 1
        return self.application(environ, start)


@pytest.fixture
def quota(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Quota:
    quota = Quota(s3_server.application)
    monkeypatch.setattr(s3_server, "application", quota)
    return quota


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else changes the layout here: who waits for that waits for itself."""
    monkeypatch.setattr(bucket, "LAYOUT_WAIT", 0.0)


@pytest.fixture
def spec() -> FeatureSpec:
    layers = (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("up1.0", 2, (4, 6)))
    return FeatureSpec("pixels", "none", layers, (460, -1, 60), (48, 32), "stretch", "fp16")


def refusal(action: Callable[[], object]) -> str:
    try:
        action()
    except StoreError as error:
        return str(error)
    return ""


def refused_at_every_change(
    quota: Quota, prepare: Callable[[int], object], action: Callable[[int], object], look: Callable[[int], object]
) -> int:
    """Does something under every quota; `look` sees what is left each time. Says how many changes it takes."""
    for number in range(99):
        prepare(number)
        quota.left = number
        told = refusal(lambda: action(number))  # noqa: B023
        quota.left = -1
        look(number)
        if not told:
            return number
        assert "Your bucket is full (QuotaExceeded)" in told
    raise AssertionError("it never ended")


def test_a_full_bucket_loses_nothing_else_wherever_it_is_met(
    bucket_url: str, quota: Quota, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    """The image itself is the old one, the new one or absent; the same writer goes on when there is room again."""
    store = FeatureStore.create(bucket_url, spec, ["a", "b"])
    last = 0

    def write(seed: int) -> None:
        nonlocal last
        store.write("b", random_maps(spec, seed))
        last = seed

    def look(number: int) -> None:
        for reader in (store, FeatureStore.open(bucket_url)):
            assert same(reader.read("a"), random_maps(spec, 500))
            if not reader.missing(["b"]):
                assert any(same(reader.read("b"), random_maps(spec, seed)) for seed in (last, 100 + number))
        write(number)
        assert same(FeatureStore.open(bucket_url).read("b"), random_maps(spec, number))

    store.write("a", random_maps(spec, 500))
    write(0)
    changes = refused_at_every_change(quota, lambda _: None, lambda number: write(100 + number), look)
    assert changes == 6  # claim, withdraw, two layers, tell, give back
    store.finalize()
    store.close()
    assert BucketPlace.at(bucket_url).claims() == []
    assert verify(bucket_url) == []


def test_a_full_bucket_while_finalizing_loses_nothing(
    bucket_url: str, quota: Quota, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    store = FeatureStore.create(bucket_url, spec, ["a", "b"])
    store.write("a", random_maps(spec, 500))

    def look(number: int) -> None:
        for reader in (store, FeatureStore.open(bucket_url)):
            assert same(reader.read("a"), random_maps(spec, 500))
            assert same(reader.read("b"), random_maps(spec, number))

    changes = refused_at_every_change(
        quota, lambda number: store.write("b", random_maps(spec, number)), lambda _: store.finalize(), look
    )
    assert 5 < changes < 20
    store.close()
    assert BucketPlace.at(bucket_url).claims() == []
    assert verify(bucket_url) == []


def test_what_a_writer_left_that_never_got_room_again_is_cleaned_up(
    bucket_url: str, quota: Quota, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    store = FeatureStore.create(bucket_url, spec, ["a", "b"])
    store.write("a", random_maps(spec, 0))
    store.finalize()
    quota.left = 2
    assert "is full" in refusal(lambda: store.write("b", random_maps(spec, 1)))
    assert "is full" in refusal(store.close)
    quota.left = -1
    assert {line.split(" of ")[0] for line in break_claims(bucket_url)} == {"images 1", "writer 0"}
    assert clean(bucket_url).files == 1
    assert verify(bucket_url) == []
    with FeatureStore.create(bucket_url, spec, ["a", "b"]) as other:
        other.write("b", random_maps(spec, 1))
    assert all(same(FeatureStore.open(bucket_url).read(name), random_maps(spec, n)) for n, name in enumerate("ab"))

"""Conditions with exemplars: the shares in which they are drawn, an order that is taken up, and what is handed out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import pytest
import torch

from matchkit.cache.exemplars import CachedExemplars, Domains, Shares, as_given
from matchkit.cache.pairs import MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.conditions import LABELS, ConditionSpec, condition_features
from matchkit.core.errors import ConfigError, DatasetError, StoreError
from matchkit.core.exemplar_batches import PARTS, PHOTO, ExemplarBatch
from matchkit.core.exemplars import Exemplars
from matchkit.core.spec import FeatureSpec, LayerSpec

NAMES = [f"i{number}" for number in range(8)]
MASK = ConditionSpec("mask", (LABELS,), (False,), (0.0,), ("none", "head", "leg"))
EDGE = ConditionSpec("edge", ("edge", "distance"), (True, True), (0.0, 1.0))
LISTS = {
    name: Exemplars(name, tuple(f"i{(number + step) % 8}" for step in (1, 2, 3)), same=same)
    for number, (name, same) in enumerate(zip(NAMES, [("i4", "i6"), *[()] * 7], strict=True))
}
ALL_SAME = Shares(same_share=1.0)


def filled(path: Path, spec: FeatureSpec, *, names: list[str], most: int = 0) -> MapCache:
    """A store whose values are the number of each image, or random labels of a condition."""
    draw = torch.Generator().manual_seed(0)
    with FeatureStore.create(path, spec, NAMES) as store:
        for number, name in enumerate(NAMES):
            shapes = {layer.name: (len(spec.timesteps), layer.channels, *layer.grid) for layer in spec.layers}
            maps = {
                layer: torch.randint(most, shape, generator=draw).float() if most else torch.full(shape, float(number))
                for layer, shape in shapes.items()
            }
            if name in names:
                store.write(name, maps)
    store = FeatureStore.open(path)
    return MapCache(store, layers=list(store.layers), timesteps=spec.timesteps[:1], limit=10**6)


def opened(folder: Path, *, names: list[str] = NAMES, condition: ConditionSpec = EDGE) -> Domains:
    maps = FeatureSpec("dinov2", "none", (LayerSpec("b11", 5, (2, 3)),), (460, -1), (48, 32), "stretch", "fp16")
    photo = FeatureSpec("pixels", "none", (LayerSpec("rgb", 3, (8, 8)),), (0,), (8, 8), "stretch", "fp16")
    dtype: Literal["fp16"] = "fp16"
    masks = condition_features(MASK, side=4, fit="stretch", dtype=dtype)
    told = condition_features(condition, side=8, fit="stretch", dtype=dtype)
    return Domains(
        maps=filled(folder / "maps.zarr", maps, names=NAMES),
        condition=filled(folder / "condition.zarr", told, names=NAMES, most=3 if condition.classes else 0),
        condition_spec=condition,
        payloads={
            PHOTO: filled(folder / "photo.zarr", photo, names=names),
            PARTS: filled(folder / "parts.zarr", masks, names=NAMES, most=3),
        },
        parts_spec=MASK,
    )


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Domains:
    return opened(tmp_path_factory.mktemp("stores"))


def drawn(
    domains: Domains, shares: Shares, *, size: int = 4, seed: int = 0, count: int = 6, start: int = 0
) -> list[ExemplarBatch]:
    source = CachedExemplars(domains, LISTS, shares=shares).batches(size=size, seed=seed, steps=100, start=start)
    return list(islice(source, count))


def of(batches: list[ExemplarBatch]) -> list[tuple[str, str, bool]]:
    return [
        triple
        for batch in batches
        for triple in zip(batch.targets.ids, batch.exemplars.ids, batch.same.tolist(), strict=True)
    ]


def test_photographs_have_all_that_is_kept_of_them(domains: Domains) -> None:
    found = domains.photographs(["i5", "i2"])
    assert found.ids == ("i5", "i2")
    assert found.maps["b11"].shape == (2, 1, 5, 2, 3)
    assert found.condition.shape == (2, 2, 8, 8)
    assert {name: tuple(values.shape) for name, values in found.payloads.items()} == {
        PHOTO: (2, 3, 8, 8),
        PARTS: (2, 3, 4, 4),
    }
    for values in (found.maps["b11"], found.condition, found.payloads[PHOTO]):
        assert [int(image.unique()) for image in values] == [5, 2]
    assert {found.condition.dtype, *(values.dtype for values in found.payloads.values())} == {torch.float32}
    parts = found.payloads[PARTS]
    assert torch.equal(parts.sum(1), torch.ones(2, 4, 4))
    labels = domains.payloads[PARTS].batch(["i5", "i2"])["condition"][:, 0, 0]
    assert torch.equal(parts.argmax(1).to(labels), labels)
    assert len(labels.unique()) == 3


def test_a_mask_is_given_one_channel_a_class(tmp_path: Path) -> None:
    assert opened(tmp_path, condition=MASK).photographs(["i0"]).condition.shape == (1, 3, 8, 8)
    values = torch.tensor([[[[0.0, 2.0]]]])
    assert as_given(values, MASK).tolist() == [[[[1, 0]], [[0, 0]], [[0, 1]]]]
    assert as_given(values, replace(EDGE, channels=("edge",), smooth=(True,), outside=(0.0,))) is values


@pytest.mark.parametrize(
    ("share", "size", "counts"),
    [
        (0.5, 4, [2, 2, 2, 2]),
        (0.25, 4, [1, 1, 1, 1]),
        (1.0, 3, [3, 3, 3, 3]),
        (0.0, 2, [0, 0, 0, 0]),
        (0.5, 1, [0, 1, 0, 1]),
        (0.3, 5, [1, 2, 1, 2]),
        (0.3, 1, [0, 0, 0, 1]),
    ],
)
def test_pseudo_exemplars_have_their_share_whatever_the_size(
    domains: Domains, share: float, size: int, counts: list[int]
) -> None:
    batches = drawn(domains, Shares(same_share=share), size=size, count=4)
    assert [int(batch.same.sum()) for batch in batches] == counts


def test_a_pseudo_exemplar_is_of_the_same_thing_or_the_target_itself(domains: Domains) -> None:
    found = of(drawn(domains, ALL_SAME, count=20))
    assert all(same for _, _, same in found)
    assert {exemplar for target, exemplar, _ in found if target == "i0"} == {"i4", "i6"}
    assert all(exemplar == target for target, exemplar, _ in found if target != "i0")


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (Shares(same_share=0.0, easy_share=1.0), {0: 1.0}),
        (Shares(same_share=0.0, hard_share=1.0), {2: 1.0}),
        (Shares(same_share=0.0), {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
        (Shares(same_share=0.5, easy_share=0.3, hard_share=0.2), {0: 0.6, 2: 0.4}),
        (Shares(same_share=0.5, easy_share=0.25), {0: 0.5 + 1 / 6, 1: 1 / 6, 2: 1 / 6}),
    ],
)
def test_the_others_are_drawn_in_their_shares(domains: Domains, shares: Shares, expected: dict[int, float]) -> None:
    source = CachedExemplars(domains, LISTS, shares=shares)
    triples = [triple for number in range(200) for triple in source._drawn(number, size=8, seed=0)]
    others = [(target, exemplar) for target, exemplar, same in triples if not same]
    assert len(others) == round((1 - shares.same_share) * 1600)
    ranks = Counter(LISTS[target].nearest.index(exemplar) for target, exemplar in others)
    assert set(ranks) == set(expected)
    for rank, share in expected.items():
        assert ranks[rank] / len(others) == pytest.approx(share, abs=0.06)


def test_an_epoch_has_every_target_once_in_an_order_of_its_own(domains: Domains) -> None:
    found = [target for target, _, _ in of(drawn(domains, Shares(), size=2, count=8))]
    assert sorted(found[:8]) == sorted(found[8:]) == NAMES
    assert found[:8] != found[8:]
    partial = [target for target, _, _ in of(drawn(domains, Shares(), size=3, count=2))]
    assert len(set(partial)) == 6


def test_the_order_is_seeded_and_taken_up_at_any_batch(domains: Domains) -> None:
    whole = drawn(domains, Shares(), count=6)
    assert of(drawn(domains, Shares(), count=6)) == of(whole)
    assert of(drawn(domains, Shares(), count=6, seed=1)) != of(whole)
    later = drawn(domains, Shares(), count=2, start=3)
    assert of(later) == of(whole[3:5])
    assert [batch.number for batch in later] == [3, 4]
    assert [batch.progress for batch in later] == [0.03, 0.04]


def test_a_split_smaller_than_a_batch_is_one_batch(domains: Domains) -> None:
    (batch,) = drawn(domains, Shares(), size=50, count=1)
    assert sorted(batch.targets.ids) == NAMES


def test_processes_share_a_batch(domains: Domains) -> None:
    source = CachedExemplars(domains, LISTS, shares=Shares())
    whole = next(source.batches(size=4, seed=0, steps=10, start=3))
    shares = [next(source.batches(size=4, seed=0, steps=10, start=3, share=(own, 2))) for own in range(2)]
    assert [batch.number for batch in shares] == [6, 7]
    assert [batch.progress for batch in shares] == [0.3, 0.3]
    assert sorted(of(shares)) == sorted(of([whole]))
    assert [int(batch.same.sum()) for batch in shares] == [1, 1]
    with pytest.raises(ConfigError, match="4 targets a step cannot be shared out evenly to 3 processes"):
        next(source.batches(size=4, seed=0, steps=10, share=(0, 3)))


def test_closing_early_ends(domains: Domains) -> None:
    batches: Iterator[ExemplarBatch] = CachedExemplars(domains, LISTS, shares=Shares()).batches(
        size=2, seed=0, steps=10
    )
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert list(batches) == []


def test_a_target_without_another_things_photograph(domains: Domains) -> None:
    lists = LISTS | {"i3": Exemplars("i3", ())}
    with pytest.raises(DatasetError, match=r"'i3' has no exemplar that shows another thing\. Run: matchkit pairs"):
        CachedExemplars(domains, lists, shares=Shares())
    assert len(CachedExemplars(domains, lists, shares=ALL_SAME)) == 8


def test_an_image_that_is_not_in_one_of_the_stores(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"photo\.zarr holds 7 of 8 images \(first absent: i6\).*matchkit conditions"):
        CachedExemplars(opened(tmp_path, names=[*NAMES[:6], "i7"]), LISTS, shares=Shares())


def test_shares_that_cannot_be() -> None:
    assert Shares(same_share=0.3, easy_share=0.5, hard_share=0.2).told == pytest.approx(1)
    for told in ({"same_share": -0.1}, {"same_share": 0.6, "easy_share": 0.5}, {"hard_share": 0.6}):
        with pytest.raises(ConfigError, match="must not be negative, nor more than 1 in all"):
            Shares(**told)


def test_content_names_every_store(domains: Domains) -> None:
    held = (domains.maps, domains.condition, domains.payloads[PARTS], domains.payloads[PHOTO])
    assert domains.content == " ".join(cache.store.content for cache in held)

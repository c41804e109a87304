"""Conditions and their exemplars as a cross-domain head trains on them, from the stores of both domains."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional

from matchkit.cache.pairs import MapCache
from matchkit.core.conditions import ConditionSpec
from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.exemplar_batches import PARTS, ExemplarBatch, Photographs
from matchkit.core.exemplars import Exemplars

ROUNDING = 1e-9
"""Of a sum of shares."""
WITHOUT = "Run: matchkit extract, or matchkit conditions"


@dataclass(frozen=True, slots=True)
class Shares:
    """Which exemplars are drawn; what is left of 1 is drawn from all of the nearest alike.

    Attributes:
        same_share: the share of pseudo exemplars: another photograph of the target's own thing, or itself where there
            is none (published: .3).
        easy_share: of the nearest (published: .5).
        hard_share: of the last of the nearest (published: .2).
    """

    same_share: float = 0.5
    easy_share: float = 0.0
    hard_share: float = 0.0

    def __post_init__(self) -> None:
        if min(self.same_share, self.easy_share, self.hard_share) < 0 or self.told > 1 + ROUNDING:
            raise ConfigError(
                "same_share, easy_share and hard_share must not be negative, nor more than 1 in all: "
                f"{self.same_share}, {self.easy_share}, {self.hard_share}"
            )

    @property
    def told(self) -> float:
        """Their sum."""
        return self.same_share + self.easy_share + self.hard_share


@dataclass(frozen=True, slots=True)
class Domains:
    """The stores of both domains, each image once in every one of them.

    Attributes:
        maps: the photographs' features.
        condition: what is translated from.
        condition_spec: what that is.
        payloads: what can be warped, by name; each the first timestep of its store's one layer.
        parts_spec: of the payload of parts, which is kept as labels; None where there is none.
    """

    maps: MapCache
    condition: MapCache
    condition_spec: ConditionSpec
    payloads: Mapping[str, MapCache]
    parts_spec: ConditionSpec | None = None

    def photographs(self, ids: Sequence[str]) -> Photographs:
        """All that is kept of some images; labels as one channel a class."""
        payloads = {name: _only(held, ids) for name, held in self.payloads.items()}
        if self.parts_spec is not None:
            payloads[PARTS] = as_given(payloads[PARTS], self.parts_spec)
        condition = as_given(_only(self.condition, ids), self.condition_spec)
        return Photographs(tuple(ids), self.maps.batch(ids), condition, payloads)

    def require(self, ids: Sequence[str]) -> None:
        """Refuses to begin without an image.

        Raises:
            StoreError: one is not complete in one of the stores.
        """
        for held in (self.maps, self.condition, *self.payloads.values()):
            held.store.require(ids, remedy=WITHOUT)

    @property
    def content(self) -> str:
        """Names all that lies in the stores."""
        held = (self.maps, self.condition, *(self.payloads[name] for name in sorted(self.payloads)))
        return " ".join(cache.store.content for cache in held)


def as_given(values: Float[torch.Tensor, "b _ h w"], spec: ConditionSpec) -> Float[torch.Tensor, "b _ h w"]:
    """A condition as a network is given it: of a mask one channel a class instead of labels."""
    if not spec.classes:
        return values
    hot = functional.one_hot(values[:, 0].round().long(), len(spec.classes))
    return hot.permute(0, 3, 1, 2).float()


def _only(held: MapCache, ids: Sequence[str]) -> Float[torch.Tensor, "b c h w"]:
    """The first timestep of a store's one layer, in single precision."""
    (values,) = held.batch(ids).values()
    return values[:, 0].float()


class CachedExemplars:
    """Targets of a split with exemplars, in a seeded order that a resumed run takes up where it stopped.

    Args:
        domains: the stores.
        lists: the exemplars of each target.
        shares: which of them are drawn.

    Raises:
        StoreError: an image is not complete in one of the stores.
        DatasetError: a target has no exemplar of the kinds that are drawn.
    """

    def __init__(self, domains: Domains, lists: Mapping[str, Exemplars], *, shares: Shares) -> None:
        self._domains = domains
        self._lists = lists
        self._shares = shares
        self._targets = sorted(lists)
        alone = [target for target in self._targets if not lists[target].nearest]
        if alone and shares.same_share < 1:
            raise DatasetError(f"'{alone[0]}' has no exemplar that shows another thing. Run: matchkit pairs")
        used = {name for entry in lists.values() for name in (entry.image, *entry.nearest, *entry.same)}
        domains.require(sorted(used))

    def __len__(self) -> int:
        return len(self._targets)

    def batches(
        self, *, size: int, seed: int, steps: int, start: int = 0, share: tuple[int, int] = (0, 1)
    ) -> Iterator[ExemplarBatch]:
        """Batches of `size` targets without end, from batch number `start` on; every epoch has its own order.

        The batch of a number is the same in every run with this seed. An epoch's last partial batch is left out. A
        thread reads the next batch meanwhile.

        Args:
            size: targets a batch, of all processes together; a split smaller than that is one batch.
            seed: of the order and of which exemplars are drawn.
            steps: of the whole fit, of which a batch says how many lie behind.
            start: the number of the first batch.
            share: the number of this process and how many there are.

        Raises:
            ConfigError: the targets of a batch cannot be shared out evenly.
        """
        size, (own, processes) = min(size, len(self._targets)), share
        if size % processes:
            raise ConfigError(f"{size} targets a step cannot be shared out evenly to {processes} processes")
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as thread:

            def read(number: int) -> Future[ExemplarBatch]:
                chosen = self._drawn(number, size=size, seed=seed)[own::processes]
                own_number = number * processes + own
                return thread.submit(self.collate, chosen, number=own_number, progress=number / steps)

            number, ahead = start, read(start)
            while True:
                batch, number = ahead.result(), number + 1
                ahead = read(number)
                yield batch

    def collate(
        self, chosen: Sequence[tuple[str, str, bool]], *, number: int = 0, progress: float = 1.0
    ) -> ExemplarBatch:
        """Targets with their exemplars, and whether these show the same thing, as a batch."""
        targets, exemplars, same = zip(*chosen, strict=True)
        return ExemplarBatch(
            targets=self._domains.photographs(targets),
            exemplars=self._domains.photographs(exemplars),
            same=torch.tensor(same),
            number=number,
            progress=progress,
        )

    def _drawn(self, number: int, *, size: int, seed: int) -> list[tuple[str, str, bool]]:
        in_epoch = len(self._targets) // size
        epoch, position = divmod(number, in_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(self._targets))
        draw = np.random.default_rng([seed, 1, number])
        # the same share all along, not by chance: a loss of pseudo exemplars has some in each batch that has room
        before, after = (int(self._shares.same_share * size * count + ROUNDING) for count in (number, number + 1))
        fixed = after - before
        targets = [self._targets[index] for index in order[position * size : (position + 1) * size]]
        return [self._with_exemplar(target, draw, same=row < fixed) for row, target in enumerate(targets)]

    def _with_exemplar(self, target: str, draw: np.random.Generator, *, same: bool) -> tuple[str, str, bool]:
        entry = self._lists[target]
        if same:
            choices = entry.same or (target,)
            return target, choices[int(draw.integers(len(choices)))], True
        rest = 1 - self._shares.same_share
        luck = draw.random() * rest
        if luck < self._shares.easy_share:
            return target, entry.nearest[0], False
        if luck < self._shares.easy_share + self._shares.hard_share:
            return target, entry.nearest[-1], False
        return target, entry.nearest[int(draw.integers(len(entry.nearest)))], False

"""Tables of names."""

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from matchkit.core import registry
from matchkit.core.errors import ConfigError, UnknownNameError
from matchkit.core.registry import Registry

LIST_ALL = """
import sys
from matchkit.evaluate import MATCHERS
from matchkit.extract.backbones import BACKBONES
from matchkit.extract.datasets import DATASETS
from matchkit.heads import HEADS
for table in (BACKBONES, DATASETS, HEADS, MATCHERS):
    assert table.table(), table.kind
print(sorted({"torch", "diffusers", "transformers", "zarr"} & set(sys.modules)))
"""


@dataclass(frozen=True)
class Params:
    size: int = 1


class Thing:
    Params = Params

    def __init__(self, params: Params, *, colour: str) -> None:
        self.made_of = (params, colour)


def table(**entries: str) -> Registry:
    return Registry("thing", entries)


def foreign(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    found = EntryPoints(EntryPoint(name, value, "matchkit.things") for name, value in points.items())
    monkeypatch.setattr(registry, "entry_points", lambda *, group: found.select(group=group))


def test_load_imports_what_is_named() -> None:
    assert table(deque="collections:deque").load("deque").__name__ == "deque"


def test_an_unknown_name_answers_with_the_nearest_and_the_next_command() -> None:
    with pytest.raises(UnknownNameError) as caught:
        table(dinov2="a:b", pixels="a:c").load("dinov3")
    assert str(caught.value) == "no thing 'dinov3'. Did you mean 'dinov2'? Run: matchkit list things"


def test_a_name_far_from_all_lists_them() -> None:
    with pytest.raises(UnknownNameError, match=r"no thing 'xyz'\. There are: dinov2, pixels\."):
        table(dinov2="a:b", pixels="a:c").load("xyz")


def test_build_checks_parameters_and_passes_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    things = table(mine="matchkit.things:Thing")
    monkeypatch.setattr(Registry, "load", lambda self, name: Thing)
    assert things.build("mine", {"size": 3}, where="p", colour="red").made_of == (Params(3), "red")
    with pytest.raises(ConfigError, match=r"p: no parameter 'sise'\. Did you mean 'size'\?"):
        things.build("mine", {"sise": 3}, where="p", colour="red")


def test_entry_points_add_names_and_never_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(monkeypatch, theirs="collections:Counter", ours="collections:Counter")
    things = table(ours="collections:OrderedDict")
    assert list(things.table()) == ["ours", "theirs"]
    assert things.load("theirs").__name__ == "Counter"
    assert things.load("ours").__name__ == "OrderedDict"


def test_entry_points_of_another_kind_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(monkeypatch, theirs="collections:Counter")
    assert Registry("head", {}).table() == {}


def test_listing_imports_nothing_dear() -> None:
    done = subprocess.run([sys.executable, "-c", LIST_ALL], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"

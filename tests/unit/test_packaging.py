"""The house stands as it is drawn: packages listed, links present, nothing shadows, a fast front door."""

import configparser
import doctest
import importlib
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import matchkit

ROOT = Path(__file__).parents[2]
ROOMS = ("cache", "evaluate", "extract", "heads", "pipelines")
CHECKOUT = (ROOT / "setup.cfg").exists()
pytestmark = pytest.mark.skipif(not CHECKOUT, reason="needs the source tree")


def options() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def listed_packages() -> set[str]:
    return set(options()["options"]["packages"].split())


def packages_on_disk() -> set[str]:
    found = set()
    for top in ("matchkit/cli", "matchkit/core", *ROOMS):
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            found.add(".".join(parts if parts[0] == "matchkit" else ("matchkit", *parts)))
    return found | {"matchkit"}


def test_every_package_is_listed() -> None:
    assert listed_packages() == packages_on_disk()


def test_every_folder_of_code_is_a_package() -> None:
    for top in ("matchkit", *ROOMS):
        for file in (ROOT / top).rglob("*.py"):
            assert (file.parent / "__init__.py").exists(), file


@pytest.mark.parametrize("room", ROOMS)
def test_the_link_to_a_room_is_present(room: str) -> None:
    link = ROOT / "matchkit" / room
    assert link.is_symlink()
    assert link.readlink() == Path("..") / room
    mapped = options()["options"]["package_dir"]
    assert f"matchkit.{room} = {room}" in mapped


def test_no_module_takes_a_standard_name_or_is_called_utils() -> None:
    for name in (name for top in ("matchkit", *ROOMS) for name in (path.stem for path in (ROOT / top).rglob("*.py"))):
        if name.startswith("__"):
            continue
        assert name not in sys.stdlib_module_names, name
        assert name != "utils"


def test_every_module_imports_and_its_examples_hold() -> None:
    examples = 0
    for module in pkgutil.walk_packages(matchkit.__path__, "matchkit."):
        if module.name.endswith("__main__"):
            continue
        result = doctest.testmod(importlib.import_module(module.name))
        assert result.failed == 0, module.name
        examples += result.attempted
    assert examples > 0


def test_the_public_names_are_there() -> None:
    for name in matchkit.__all__:
        assert getattr(matchkit, name) is not None


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, cwd="/")


def test_help_imports_no_torch_and_is_quick() -> None:
    code = "import sys, matchkit.cli; print({'torch', 'zarr', 'pydantic'} & set(sys.modules))"
    assert run("-c", code).stdout.strip() == "set()"
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run("-m", "matchkit", "--help")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


def test_scoring_imports_no_torch() -> None:
    code = "import sys, matchkit.evaluate.pck, matchkit.core.spec; print('torch' in sys.modules)"
    assert run("-c", code).stdout.strip() == "False"


def test_requires_python() -> None:
    assert options()["options"]["python_requires"] == ">=3.11"
    assert sys.version_info >= (3, 11)

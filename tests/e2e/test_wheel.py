"""The wheel holds what the checkout holds: every module of every room, and the embedded weights."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("cache", "evaluate", "extract", "heads", "pipelines")
DATA = {".css", ".html", ".js", ".json", ".md", ".safetensors", ".txt", ".typed", ".yaml"}


def shipped(root: Path) -> set[str]:
    """The files of the checkout that belong into the wheel, by their place in it."""
    files = {path: path.relative_to(root).as_posix() for path in (root / "matchkit").glob("*.*")}
    for folder in ("cli", "core"):
        files |= {path: path.relative_to(root).as_posix() for path in (root / "matchkit" / folder).rglob("*.py")}
    for room in ROOMS:
        files |= {path: f"matchkit/{path.relative_to(root).as_posix()}" for path in (root / room).rglob("*.*")}
    return {name for path, name in files.items() if path.is_file() and path.suffix in {".py", *DATA}}


@pytest.mark.slow
def test_the_wheel_equals_the_checkout(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("matchkit", *ROOMS):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == shipped(source)
    assert any(name.endswith("unet/diffusion_pytorch_model.safetensors") for name in packed)

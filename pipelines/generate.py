"""Pictures from prompts with the features that made them: a folder of images, and a feature store beside it."""

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import google_crc32c
from PIL import Image, PngImagePlugin
from tqdm import tqdm

from matchkit.cache.store import FeatureStore
from matchkit.core.device import choose_device
from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.params import build, divide
from matchkit.core.poses import pose_of
from matchkit.extract.backbones.sd_generation import SDGeneration, SDGenerationParams
from matchkit.pipelines.settings import told

IMAGES, STORE = "images", "features.zarr"
COLUMNS = ("id", "prompt")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GenerateParams:
    """How a generation runs.

    Attributes:
        batch: pictures a batch; the last one is filled up, so that every picture is made at one batch size.
    """

    batch: int = 2

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError("batch must be at least 1")


@dataclass(frozen=True, slots=True)
class Generated:
    """What a generation did: the images' folder, the store, its spec's digest, pictures there were and made now."""

    images: Path
    store: str
    digest: str
    present: int
    done: int


def read_prompts(path: Path) -> dict[str, str]:
    """Prompts by the ids of their pictures: a CSV file with the columns id,prompt, or a text file of a prompt a line.

    A line's id is its number, `0001` and on; empty lines count but are none. An id may have folders: `car/0001`.

    Raises:
        DatasetError: no such file, not in UTF-8, no prompt in it, or an id that cannot name a file or comes twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not a readable file of prompts in UTF-8: {error}") from error
    prompts: dict[str, str] = {}
    for image_id, prompt in _rows(path, text):
        if not prompt or not _names_a_file(image_id):
            raise DatasetError(f"{path}: id '{image_id}' with prompt '{prompt}': an id names a file, and has a prompt")
        if image_id in prompts:
            raise DatasetError(f"{path}: id '{image_id}' comes twice")
        prompts[image_id] = prompt
    if not prompts:
        raise DatasetError(f"{path} holds no prompt")
    return prompts


def _names_a_file(image_id: str) -> bool:
    """Whether it is a plain relative path, and not that of a posed copy."""
    parts = PurePosixPath(image_id).parts
    plain = bool(parts) and "/".join(parts) == image_id and not {"/", ".."} & set(parts)
    return plain and "\\" not in image_id and pose_of(image_id) == "none"


def _rows(path: Path, text: str) -> list[tuple[str, str]]:
    lines = text.splitlines()
    if path.suffix.lower() != ".csv":
        return [(f"{number:04d}", line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    reader = csv.DictReader(lines)
    if not set(COLUMNS) <= set(reader.fieldnames or ()):
        raise DatasetError(f"{path} needs the columns {','.join(COLUMNS)}")
    return [((row["id"] or "").strip(), (row["prompt"] or "").strip()) for row in reader]


def generate(
    prompts: Path,
    *,
    out: Path,
    store: str | None = None,
    weights: str | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
) -> Generated:
    """Makes `<out>/images/<id>.png` of each prompt, and its maps in a store, `<out>/features.zarr` where none is told.

    What is there is kept where prompt and picture are as they were; the dataset `folder` opens `<out>/images`.

    Raises:
        DatasetError: the prompts cannot be read.
        SpecMismatchError: the store was made under other parameters.
    """
    wanted = read_prompts(prompts)
    asked = told("generate", settings)
    values = dict(asked.values) | ({"weights": weights} if weights else {})
    own, of_network = divide(values, (GenerateParams, SDGenerationParams), where=asked.where)
    params = build(GenerateParams, own, where=asked.where)
    network = SDGeneration(build(SDGenerationParams, of_network, where=asked.where), device=choose_device(device))
    images = out / IMAGES
    with FeatureStore.create(store or out / STORE, network.spec, list(wanted)) as opened:
        todo = _todo(opened, images, wanted)
        with tqdm(total=len(todo), desc="generate", unit="image", disable=None) as progress:
            for start in range(0, len(todo), params.batch):
                group = todo[start : start + params.batch]
                _make(network, opened, images, {image_id: wanted[image_id] for image_id in group}, batch=params.batch)
                progress.update(len(group))
        opened.finalize()
    return Generated(images, str(opened), opened.spec.digest(), present=len(wanted) - len(todo), done=len(todo))


def _todo(store: FeatureStore, images: Path, wanted: Mapping[str, str]) -> list[str]:
    """The pictures to make; what is in the store of another prompt or picture is withdrawn."""
    missing = set(store.missing(wanted))
    for image_id, prompt in wanted.items():
        path = images / f"{image_id}.png"
        if image_id in missing or (_prompt(path) == prompt and not store.stale({image_id: _checksum(path)})):
            continue
        log.warning("%s: the picture or the prompt of '%s' has changed since", store, image_id)
        store.withdraw(image_id)
        missing.add(image_id)
    return [image_id for image_id in wanted if image_id in missing]


def _prompt(path: Path) -> str | None:
    """The prompt that a picture says it was made from."""
    try:
        with Image.open(path) as picture:
            return picture.info.get("prompt")
    except (OSError, SyntaxError):
        return None


def _checksum(path: Path) -> int:
    return int(google_crc32c.value(path.read_bytes()))


def _make(network: SDGeneration, store: FeatureStore, images: Path, wanted: Mapping[str, str], *, batch: int) -> None:
    ids = list(wanted)
    filled = ids + ids[-1:] * (batch - len(ids))
    painted = network([wanted[image_id] for image_id in filled], filled)
    for row, image_id in enumerate(ids):
        path = images / f"{image_id}.png"
        _save(Image.fromarray(painted.pictures[row].numpy()), path, prompt=wanted[image_id])
        maps = {layer: values[row] for layer, values in painted.maps.items()}
        store.write(image_id, maps, image_crc32c=_checksum(path))


def _save(picture: Image.Image, path: Path, *, prompt: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    about = PngImagePlugin.PngInfo()
    about.add_itxt("prompt", prompt)
    unfinished = path.with_name(f".{path.name}.partial")
    picture.save(unfinished, format="PNG", pnginfo=about)
    unfinished.replace(path)

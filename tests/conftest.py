"""What several folders of tests stand on: the shared files where present, drawn images and trees, tiny networks."""

import json
import os
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from matchkit.core.records import ImageRecord
from matchkit.core.seeding import generator
from matchkit.core.spec import FeatureSpec, LayerSpec

SHARED = Path(__file__).resolve().parents[2] / "shared"
TREE_SIZES = {"cat/2007_000001": (40, 30), "cat/2007_000002": (32, 48), "dog/2008_000003": (36, 36)}
"""(width, height) of the images of `spair_tree`; the dog stands alone, so it is paired with itself."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--update-golden`, which writes the numbers of `tests/golden` anew."""
    parser.addoption("--update-golden", action="store_true", help="write the golden numbers instead of comparing")


def _shared(folder: str) -> Path:
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"{path} is not here: it is shared beside the repository, not part of it")
    return path


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Computes tiny tensors on one thread: several would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    if "slow" not in request.keywords:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def spair_mini() -> Path:
    """Twelve real photographs in SPair-71k's layout."""
    return _shared("data/spair-mini")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers of the published implementations, and the network they were made with."""
    return _shared("golden")


@pytest.fixture(scope="session")
def draw() -> Callable[[tuple[int, int], int], Image.Image]:
    """Draws an RGB image of (width, height) pixels: smooth, and different for every seed."""

    def drawn(size: tuple[int, int], seed: int) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)

    return drawn


@pytest.fixture
def photos(tmp_path: Path, draw: Callable[[tuple[int, int], int], Image.Image]) -> list[ImageRecord]:
    """Seven readable images of several sizes, with their records."""
    records = []
    for number in range(7):
        size, path = (30 + 5 * number, 60 - 4 * number), tmp_path / f"photo{number}.png"
        draw(size, number).save(path)
        records.append(ImageRecord(f"cat/photo{number}", path, size))
    return records


@pytest.fixture
def spair_tree(tmp_path: Path, draw: Callable[[tuple[int, int], int], Image.Image]) -> Path:
    """A small tree in SPair-71k's layout, with all its fields and its colons."""
    root = tmp_path / "spair"
    for number, (name, size) in enumerate(TREE_SIZES.items()):
        category, stem = name.split("/")
        for folder in ("JPEGImages", "ImageAnnotation"):
            (root / folder / category).mkdir(parents=True, exist_ok=True)
        draw(size, number).save(root / "JPEGImages" / f"{name}.jpg")
        annotation = {"filename": f"{stem}.jpg", "category": category, "azimuth_id": number}
        annotation |= {"image_width": size[0], "image_height": size[1], "image_depth": 3, "bndbox": [1, 1, *size]}
        (root / "ImageAnnotation" / f"{name}.json").write_text(json.dumps(annotation))
    cat1, cat2, dog = TREE_SIZES
    for split, pairs in {"trn": [(cat1, cat2), (dog, dog)], "val": [(cat2, cat1)], "test": [(cat1, cat2)]}.items():
        names = [_write_pair(root, split, n, source, target) for n, (source, target) in enumerate(pairs, start=1)]
        (root / "Layout" / "large").mkdir(parents=True, exist_ok=True)
        (root / "Layout" / "large" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return root


def _write_pair(root: Path, split: str, number: int, source: str, target: str) -> str:
    category = source.split("/")[0]
    stems = [image.split("/")[1] for image in (source, target)]
    name = f"{number:06d}-{stems[0]}-{stems[1]}:{category}"
    annotation = {
        **{"pair_id": number, "filename": name, "category": category, "src_pose": "Left", "trg_pose": "Frontal"},
        **{"src_imname": f"{stems[0]}.jpg", "trg_imname": f"{stems[1]}.jpg"},
        **{"src_imsize": [*TREE_SIZES[source], 3], "trg_imsize": [*TREE_SIZES[target], 3]},
        **{"src_bndbox": [1, 2, 30, 28], "trg_bndbox": [3, 4, 31, 30], "kps_ids": ["0", "7", "11"]},
        **{"src_kps": [[5, 6], [20, 10], [29, 27]], "trg_kps": [[4, 4], [30, 12], [16, 29]]},
        **{"mirror": 0, "viewpoint_variation": 1, "scale_variation": 2, "truncation": 0, "occlusion": 3},
    }
    folder = root / "PairAnnotation" / split
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(annotation))
    return name


@pytest.fixture(scope="session")
def random_maps() -> Callable[[FeatureSpec, int], Mapping[str, torch.Tensor]]:
    """Draws the maps (t,c,gh,gw) of one image under a spec, different for every seed."""

    def maps(spec: FeatureSpec, seed: int) -> Mapping[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        dtype = {"fp16": torch.float16, "fp32": torch.float32}[spec.dtype]
        shapes = {layer.name: (len(spec.timesteps), layer.channels, *layer.grid) for layer in spec.layers}
        return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}

    return maps


class Promptable:
    """A `PromptableBackbone` of 48 x 32 pixels in a few matrices: maps depend on latents, ids, states and timestep.

    Attributes:
        seen: (ids, states, timestep, ensemble) of the calls of `maps`.
    """

    spec = FeatureSpec(
        backbone="promptable",
        weights="none",
        layers=(LayerSpec("coarse", 5, (2, 3)), LayerSpec("fine", 6, (4, 6))),
        timesteps=(-1,),
        input_size=(48, 32),
        fit="stretch",
        dtype="fp32",
    )
    token_width = 8
    most_tokens = 5
    states_shape = (7, 8)

    def __init__(self) -> None:
        self._weights = {name: self._drawn((8, 8), name) for name in ("encoder", "words")}
        self._weights |= {"query": self._drawn((4, 8), "query"), "skip": self._drawn((4, 6), "skip")}
        self._weights |= {"value": self._drawn((8, 6), "value")}
        self.seen: list[tuple[tuple[str, ...], torch.Size, int, int]] = []

    @staticmethod
    def _drawn(shape: tuple[int, ...], *names: str | int) -> torch.Tensor:
        return torch.randn(shape, generator=generator(0, *names))

    def drawn_tokens(self, count: int, draw: torch.Generator) -> torch.Tensor:
        return 0.1 * torch.randn(count, self.token_width, generator=draw)

    def told_tokens(self, prompt: str, count: int) -> torch.Tensor:
        return self._drawn((count, self.token_width), "told", prompt)

    def states_of_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        ends = self._weights["words"][: 7 - tokens.shape[1]].expand(len(tokens), -1, -1)
        framed = torch.cat([ends[:, :1], tokens, ends[:, 1:]], 1)
        states: torch.Tensor = (framed + framed.mean(1, keepdim=True)) @ self._weights["encoder"]
        return states.tanh()

    def states_of_text(self, prompt: str) -> torch.Tensor:
        return self._drawn((1, 7, 8), "text", prompt).tanh()

    def maps(
        self, latents: torch.Tensor, ids: Sequence[str], states: torch.Tensor, *, timestep: int, ensemble: int = 1
    ) -> dict[str, torch.Tensor]:
        self.seen.append((tuple(ids), states.shape, timestep, ensemble))
        total = torch.zeros(len(ids), 4, 6, 6)
        for copy in range(ensemble):
            noise = torch.stack([self._drawn(latents.shape[1:], name, timestep, copy) for name in ids])
            noised = (latents + timestep / 1000 * noise).movedim(1, -1)
            shares = (noised.flatten(1, 2) @ self._weights["query"] @ states.mT).softmax(2)
            attended = shares @ states @ self._weights["value"]
            total = total + (0.3 * noised @ self._weights["skip"] + 2 * attended.unflatten(1, (4, 6))) / ensemble
        fine = total.movedim(-1, 1)
        return {"coarse": torch.nn.functional.avg_pool2d(fine[:, :5], 2), "fine": fine}


@pytest.fixture
def promptable() -> Promptable:
    """A tiny backbone that heads can prompt."""
    return Promptable()


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline in diffusers' format, tiny and untrained: 16 px input, latents of 8 x 8, 4 up blocks x 3 ResNets."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    characters = [chr(number) for number in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *characters, *(f"{letter}</w>" for letter in characters)]
    tokenizer = CLIPTokenizer(vocab={token: n for n, token in enumerate(tokens)}, merges=[], model_max_length=6)
    text = CLIPTextConfig(
        **{"vocab_size": len(tokens), "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "max_position_embeddings": 6, "bos_token_id": 0, "eos_token_id": 1},
        pad_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(4, 8, 8, 12),
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            attention_head_dim=2,
            cross_attention_dim=8,
            norm_num_groups=4,
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            latent_channels=4,
            norm_num_groups=4,
            sample_size=16,
        )
        encoder = CLIPTextModel(text)
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = DDIMScheduler(**betas, steps_offset=1, clip_sample=False, set_alpha_to_one=False)
    parts = {"unet": unet, "vae": vae, "text_encoder": encoder, "tokenizer": tokenizer, "scheduler": scheduler}
    extras = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    folder = tmp_path_factory.mktemp("networks") / "sd"
    StableDiffusionPipeline(**parts, **extras).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def dinov2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dinov2 in transformers' format, tiny and untrained: 32 px input, patches of 8, three blocks of width 16."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Dinov2Model(config)
    folder = tmp_path_factory.mktemp("networks") / "dinov2"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def timm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT in timm's format, tiny and untrained: 32 px input, patches of 8, three blocks of width 16."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, **shape)
    folder = tmp_path_factory.mktemp("networks") / "timm"
    normalisation = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "input_size": [3, 32, 32]}
    timm.models.save_for_hf(
        model, folder, safe_serialization=True, model_config={"pretrained_cfg": normalisation}, model_args=shape
    )
    return folder


Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass
class S3Server:
    """moto's S3 behind a door that keeps the promises of S3 and plays the tricks of a network.

    Attributes:
        application: moto's.
        endpoint: its address.
        seen: the requests so far, as `GET /bucket/key`.
        most: requests at the same time, so far.
        delay: seconds before an answer.
        lost: answers to come that get lost: the server does what was asked, and then says 500.
    """

    application: Application
    endpoint: str = ""
    seen: list[str] = field(default_factory=list)
    most: int = 0
    delay: float = 0.0
    lost: int = 0
    _now: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock)
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with self._counting:
            self.seen.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            time.sleep(self.delay)
            return self._answer(environ, start)
        finally:
            with self._counting:
                self._now -= 1

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self.application(environ, start)
        # moto looks whether there is an object and then writes it, in two steps; S3 does it in one
        with self._changing:
            if self.lost == 0:
                return list(self.application(environ, start))
            self.lost -= 1
            list(self.application(environ, lambda *_: None))
            start("500 Internal Server Error", [])
            return []

    def ask(self, method: str, path: str, data: bytes | None = None, **headers: str) -> None:
        """A request without obstore and without credentials."""
        asked = urllib.request.Request(f"{self.endpoint}{path}", data, headers, method=method)
        asked.add_header("Content-Type", "application/octet-stream")  # what looks like a form is no body to moto
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked).close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server on this machine."""
    for library in ("obstore", "moto.server"):
        pytest.importorskip(library, reason=f"{library} is not installed: what lies in buckets is not tested")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: object) -> None:
            """Says nothing."""

    server = S3Server(DomainDispatcherApplication(create_backend_app))
    listening = make_server("127.0.0.1", 0, server, threaded=True, request_handler=Quiet)
    server.endpoint = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def bucket_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a store may lie in a new bucket; the environment leads to its server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    name = f"features-{uuid.uuid4().hex}"
    s3_server.ask("PUT", f"/{name}")
    return f"s3://{name}/spair/F.zarr"


@pytest.fixture(params=["s3", "memory"])
def object_url(request: pytest.FixtureRequest) -> str:
    """Where a store may lie: in a new bucket, and in memory."""
    if request.param == "memory":
        pytest.importorskip("obstore", reason="obstore is not installed: what lies in buckets is not tested")
        return f"memory:///{uuid.uuid4().hex}"
    return str(request.getfixturevalue("bucket_url"))

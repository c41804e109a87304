"""Conditions of a UNet: the states of a prompt, in words or learned, for all images or for each image's category."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.weights import not_a_pipeline, quietly

CATEGORY = "{category}"
"""In a prompt it stands for the category of each image, the first part of its id."""
States = Float[torch.Tensor, "_ n c"]
"""A prompt's states for every image of a batch, or one for all."""
EMBEDDINGS = "embeddings"
"""What transformers calls the part of a text encoder that adds the embeddings of tokens and of their positions."""
PADDING = 0
"""The token behind the end of a learned prompt that is shorter than the encoder's input: Stable Diffusion 2's, "!"."""


class TextEncoder:
    """The frozen text encoder of a pipeline, for words and for input embeddings that no word has.

    Several threads may call it at the same time.

    Raises:
        WeightsError: the folder's text encoder or tokenizer cannot be read.

    Attributes:
        length: tokens of every prompt, the first and the last one included.
        width: of an input embedding, and of a state.
    """

    def __init__(self, folder: Path, *, device: torch.device, dtype: torch.dtype) -> None:
        files = {"local_files_only": True}
        try:
            with quietly():
                self._tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", **files)
                encoder = CLIPTextModel.from_pretrained(
                    folder, subfolder="text_encoder", use_safetensors=True, dtype=dtype, **files
                )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise not_a_pipeline(folder, error) from error
        self._device = device
        self._encoder = encoder.to(device).eval().requires_grad_(requires_grad=False)
        self._embeddings: nn.Module = next(
            module for name, module in encoder.named_modules() if name.rpartition(".")[2] == EMBEDDINGS
        )
        self._instead: ContextVar[torch.Tensor | None] = ContextVar("instead", default=None)
        self._embeddings.register_forward_hook(self._replace)
        self.length: int = self._tokenizer.model_max_length
        self.width: int = encoder.config.hidden_size

    @torch.no_grad()
    def __call__(self, prompt: str) -> States:
        """A prompt's states, final layer norm applied."""
        states: torch.Tensor = self._encoder(self.tokens(prompt)).last_hidden_state
        return states

    def tokens(self, prompt: str) -> Int[torch.Tensor, "1 l"]:
        """The ids of a prompt's tokens, cut and filled up to the encoder's length."""
        tokens = self._tokenizer(
            prompt, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )
        ids: torch.Tensor = tokens.input_ids
        return ids.to(self._device)

    @torch.no_grad()
    def embedded(self, ids: Int[torch.Tensor, "1 l"]) -> Float[torch.Tensor, "1 l c"]:
        """The input embeddings of tokens, with those of their positions."""
        embeddings: torch.Tensor = self._embeddings(input_ids=ids)
        return embeddings

    def drawn(self, count: int, draw: torch.Generator) -> Float[torch.Tensor, "n c"]:
        """The input embeddings of words drawn from the whole vocabulary, from the second position on."""
        vocabulary = self._encoder.config.vocab_size
        words = torch.randint(vocabulary, (count,), generator=draw, device=draw.device)
        return self.embedded(self._framed(words.to(self._device)))[0, 1 : 1 + count]

    def of_embeddings(self, tokens: Float[torch.Tensor, "b k c"]) -> States:
        """The states of input embeddings between the first token and the last one, differentiable in them.

        They stand for the embeddings of tokens and of positions together, as SD4Match has it.
        """
        count = tokens.shape[1]
        ids = self._framed(torch.zeros(count, dtype=torch.long, device=self._device))
        own = self.embedded(ids).expand(len(tokens), -1, -1)
        framed = torch.cat([own[:, :1], tokens.to(own), own[:, 1 + count :]], dim=1)
        token = self._instead.set(framed)
        try:
            # the ids lead to the causal mask alone: what they are embedded as is replaced
            states: torch.Tensor = self._encoder(ids.expand(len(tokens), -1)).last_hidden_state
        finally:
            self._instead.reset(token)
        return states

    def _framed(self, words: Int[torch.Tensor, " n"]) -> Int[torch.Tensor, "1 l"]:
        """Ids of all tokens of a prompt of these words."""
        ids = torch.full((1, self.length), PADDING, device=self._device)
        ids[0, 0] = self._tokenizer.bos_token_id
        ids[0, 1 : 1 + len(words)] = words
        ids[0, 1 + len(words)] = self._tokenizer.eos_token_id
        return ids

    def _replace(self, module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        instead = self._instead.get()
        return output if instead is None else instead


class Prompts:
    """The states of a prompt for the images of a batch, each prompt encoded once.

    The encoder is let go where all images have one prompt.

    Attributes:
        name: of the prompt in a spec.
    """

    def __init__(self, encoder: TextEncoder, template: str) -> None:
        self.name = self._template = template
        self._states: dict[str, States] = {}
        self._encoding = Lock()
        self._encoder: TextEncoder | None = encoder
        if CATEGORY not in template:
            self._of(template)
            self._encoder = None

    def __call__(self, ids: Sequence[str]) -> States:
        """One for all images where their prompt is the same, else one each.

        Raises:
            ConfigError: the prompt wants a category, and an image's id is not `<category>/<stem>`.
        """
        prompts = [self._prompt(image_id) for image_id in ids]
        if len(set(prompts)) == 1:
            return self._of(prompts[0])
        return torch.cat([self._of(prompt) for prompt in prompts])

    def _prompt(self, image_id: str) -> str:
        if CATEGORY not in self._template:
            return self._template
        category, separator, _ = image_id.partition("/")
        if not separator:
            raise ConfigError(
                f"the prompt '{self._template}' wants a category, and image '{image_id}' has none: put the images into "
                "a folder a category, or give another prompt with --set prompt=..."
            )
        return self._template.replace(CATEGORY, category)

    def _of(self, prompt: str) -> States:
        with self._encoding:
            if prompt not in self._states:
                assert self._encoder is not None
                self._states[prompt] = self._encoder(prompt)
            return self._states[prompt]


@dataclass(frozen=True, slots=True)
class LearnedPrompts:
    """The states of a learned prompt for the images of a batch.

    Attributes:
        states: by category; "" for images of any other.
        digest: of what they were made from; it stands in the spec of the features.
    """

    states: Mapping[str, States]
    digest: str

    @property
    def name(self) -> str:
        """Of the prompt in a spec."""
        return f"learned {self.digest}"

    def __call__(self, ids: Sequence[str]) -> States:
        """One for each image.

        Raises:
            ConfigError: there is none for the category of an image.
        """
        return torch.cat([self._of(image_id) for image_id in ids])

    def _of(self, image_id: str) -> States:
        category, separator, _ = image_id.partition("/")
        for name in (category if separator else "", ""):
            if name in self.states:
                return self.states[name]
        raise ConfigError(f"no learned prompt for image '{image_id}': there are those of {', '.join(self.states)}")

    def fitting(self, *, width: int, where: str) -> "LearnedPrompts":
        """These, if a UNet's cross-attentions can be given them.

        Raises:
            WeightsError: they are of another width.
        """
        for states in self.states.values():
            if states.shape[-1] != width:
                raise WeightsError(
                    f"a prompt of states {states.shape[-1]} wide does not fit {where}, whose cross-attentions take "
                    f"{width}: it was learned with another text encoder"
                )
        return self

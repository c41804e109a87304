"""Text conditions: a prompt's states, for all images or for each image's category."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTokenizer

from matchkit.core.errors import ConfigError
from matchkit.extract.backbones.weights import not_a_pipeline, quietly

CATEGORY = "{category}"
"""In a prompt it stands for the category of each image, the first part of its id."""
States = Float[torch.Tensor, "_ n c"]
"""A prompt's states for every image of a batch, or one for all."""


class TextEncoder:
    """The frozen text encoder of a pipeline.

    Raises:
        WeightsError: the folder's text encoder or tokenizer cannot be read.
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

    @torch.inference_mode()
    def __call__(self, prompt: str) -> States:
        """A prompt's states, final layer norm applied."""
        tokens = self._tokenizer(
            prompt,
            padding="max_length",
            max_length=self._tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        states: torch.Tensor = self._encoder(tokens.input_ids.to(self._device)).last_hidden_state
        return states


class Prompts:
    """The states of a prompt for the images of a batch, each prompt encoded once.

    The encoder is let go where all images have one prompt.
    """

    def __init__(self, encoder: TextEncoder, template: str) -> None:
        self._template = template
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

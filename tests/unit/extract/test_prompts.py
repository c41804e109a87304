"""Text conditions: one prompt for all images, or each image's own."""

from pathlib import Path

import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.prompts import LearnedPrompts, Prompts, TextEncoder


@pytest.fixture
def encoder(sd_folder: Path) -> TextEncoder:
    return TextEncoder(sd_folder, device=torch.device("cpu"), dtype=torch.float32)


def test_states_are_those_of_transformers(sd_folder: Path, encoder: TextEncoder) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(sd_folder, subfolder="tokenizer")
    model = CLIPTextModel.from_pretrained(sd_folder, subfolder="text_encoder").eval()
    tokens = tokenizer("dog", padding="max_length", max_length=6, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(tokens.input_ids)[0]
    assert torch.equal(encoder("dog"), expected)
    assert encoder("a very long dog that does not fit").shape == expected.shape


def test_one_prompt_for_all_is_encoded_once(encoder: TextEncoder) -> None:
    prompts = Prompts(encoder, "dog")
    assert torch.equal(prompts(["cat/a", "b"]), encoder("dog"))
    assert prompts(["cat/a", "b"]).shape[0] == 1


def test_the_prompt_of_each_images_category(encoder: TextEncoder) -> None:
    asked: list[str] = []

    class Counted(TextEncoder):
        def __init__(self) -> None:
            """Stands for the encoder and counts."""

        def __call__(self, prompt: str) -> torch.Tensor:
            asked.append(prompt)
            return encoder(prompt)

    prompts = Prompts(Counted(), "a {category}")
    states = prompts(["cat/x", "dog/y@flip", "cat/z/w"])
    assert torch.equal(states, torch.cat([encoder("a cat"), encoder("a dog"), encoder("a cat")]))
    assert torch.equal(prompts(["cat/x", "cat/y"]), encoder("a cat"))
    assert asked == ["a cat", "a dog"]


def test_an_image_without_a_category_is_refused(encoder: TextEncoder) -> None:
    with pytest.raises(ConfigError, match=r"'a \{category\}' wants a category, and image 'tom' has none"):
        Prompts(encoder, "a {category}")(["cat/x", "tom"])


@pytest.fixture
def learned() -> LearnedPrompts:
    return LearnedPrompts({"cat": torch.zeros(1, 6, 8), "dog": torch.ones(1, 6, 8)}, "0123")


def test_a_learned_prompt_is_that_of_each_images_category(learned: LearnedPrompts) -> None:
    assert learned(["dog/x", "cat/y@flip", "dog/z/w"])[:, 0, 0].tolist() == [1, 0, 1]
    assert learned.name == "learned 0123"


def test_an_image_without_a_learned_prompt_is_refused(learned: LearnedPrompts) -> None:
    for name in ("cow/a", "cat"):
        with pytest.raises(ConfigError, match=f"no learned prompt for image '{name}': there are those of cat, dog"):
            learned([name])


def test_a_learned_prompt_for_all_the_others() -> None:
    learned = LearnedPrompts({"": torch.zeros(1, 6, 8), "dog": torch.ones(1, 6, 8)}, "0123")
    assert learned(["tom", "cow/a", "dog/b"])[:, 0, 0].tolist() == [0, 0, 1]


def test_a_learned_prompt_of_another_width_is_refused(learned: LearnedPrompts) -> None:
    assert learned.fitting(width=8, where="here") is learned
    with pytest.raises(WeightsError, match="states 8 wide does not fit here, whose cross-attentions take 9"):
        learned.fitting(width=9, where="here")

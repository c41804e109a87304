"""The prompts of one image: learnt for all, learnt for each category, or told in words.

Source: Li et al., SD4Match, CVPR 2024 (arXiv 2310.17569).
"""

import logging
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import nn

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import PromptableBackbone
from matchkit.core.seeding import generator

log = logging.getLogger(__name__)
TEXT = "text"
"""What an unseen category falls back to where it is no other category."""


def category_of(image_id: str) -> str:
    """The first part of an image's id.

    Example:
        >>> category_of("dog/2009_1@flip")
        'dog'
    """
    return image_id.partition("/")[0]


def in_words(template: str, category: str) -> str:
    """A prompt in words, in which `{category}` stands for a category."""
    return template.replace("{category}", category)


class SinglePrompt(nn.Module):
    """Tokens that are the same for every image. They begin as the embeddings of random words."""

    def __init__(self, backbone: PromptableBackbone, *, count: int, seed: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(_drawn(backbone, count, generator(seed, "prompt")))

    def states(self, backbone: PromptableBackbone, ids: Sequence[str]) -> Float[torch.Tensor, "_ l c"]:
        """One prompt's states for all images."""
        del ids
        return backbone.states_of_tokens(self.tokens[None])


class ClassPrompt(nn.Module):
    """Tokens (k,n,d) for each category, in the order of the categories.

    They are one parameter: Adam's momentum moves all of them in each step, whatever categories it sees.

    Args:
        backbone: whose tokens they are.
        categories: for which there are tokens.
        count: of the tokens of each.
        seed: of the words by which they begin.
        unseen: the category whose tokens another category takes; `text` gives that the template.
        template: of the prompt in words.
    """

    def __init__(
        self,
        backbone: PromptableBackbone,
        *,
        categories: Sequence[str],
        count: int,
        seed: int,
        unseen: str,
        template: str,
    ) -> None:
        super().__init__()
        drawn = [_drawn(backbone, count, generator(seed, "prompt", category)) for category in categories]
        self.tokens = nn.Parameter(torch.stack(drawn))
        self._row = {category: row for row, category in enumerate(categories)}
        self._unseen = unseen
        self._template = template
        self._told: set[str] = set()

    def states(self, backbone: PromptableBackbone, ids: Sequence[str]) -> Float[torch.Tensor, "b l c"]:
        """The states of each image's category; each prompt goes through the text encoder once."""
        asked = {image_id: self._stands_for(category_of(image_id)) for image_id in ids}
        known = [category for category in dict.fromkeys(asked.values()) if category in self._row]
        states: dict[str, torch.Tensor] = {}
        if known:
            tokens = self.tokens[[self._row[category] for category in known]]
            states |= zip(known, backbone.states_of_tokens(tokens), strict=True)
        for category in asked.values():
            if category not in states:
                states[category] = backbone.states_of_text(in_words(self._template, category))[0]
        return torch.stack([states[asked[image_id]] for image_id in ids])

    def _stands_for(self, category: str) -> str:
        """The category itself, or the one that it falls back to; that is said once."""
        if category in self._row:
            return category
        if category not in self._told:
            self._told.add(category)
            instead = f"'{in_words(self._template, category)}'" if self._unseen == TEXT else f"that of {self._unseen}"
            log.warning("category '%s' was not trained on: its prompt is %s", category, instead)
        return category if self._unseen == TEXT else self._unseen


class HiddenStatePrompt(nn.Module):
    """What the text encoder would give, learnt for all images without one. It begins uniform in [0, 1)."""

    def __init__(self, backbone: PromptableBackbone, *, seed: int) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.rand(backbone.states_shape, generator=generator(seed, "prompt")))

    def states(self, backbone: PromptableBackbone, ids: Sequence[str]) -> Float[torch.Tensor, "1 l c"]:
        """The states for all images."""
        del backbone, ids
        return self.hidden[None]


class TextPrompt(nn.Module):
    """A prompt in words, with nothing to learn; the empty one is one of these."""

    def __init__(self, template: str) -> None:
        super().__init__()
        self._template = template

    def states(self, backbone: PromptableBackbone, ids: Sequence[str]) -> Float[torch.Tensor, "b l c"]:
        """The states of each image's category."""
        states: Mapping[str, torch.Tensor] = {
            category: backbone.states_of_text(in_words(self._template, category))[0]
            for category in dict.fromkeys(map(category_of, ids))
        }
        return torch.stack([states[category_of(image_id)] for image_id in ids])


PromptOfImage = SinglePrompt | ClassPrompt | HiddenStatePrompt | TextPrompt


def room(backbone: PromptableBackbone, count: int) -> int:
    """As many tokens as are asked for, or as there is room for.

    Raises:
        ConfigError: none.
    """
    if min(count, backbone.most_tokens) < 1:
        raise ConfigError(f"{count} tokens were asked for, and there is room for {backbone.most_tokens}")
    return min(count, backbone.most_tokens)


def _drawn(backbone: PromptableBackbone, count: int, draw: torch.Generator) -> Float[torch.Tensor, "n d"]:
    return backbone.drawn_tokens(room(backbone, count), draw).detach().to("cpu", torch.float32).clone()

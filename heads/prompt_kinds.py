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


class Beginning:
    """What learnt prompts are before they are trained.

    Args:
        seed: of random words, as published.
        template: where it is told, its words are the beginning instead.
    """

    def __init__(self, *, seed: int, template: str | None = None) -> None:
        self._seed = seed
        self._template = template

    def tokens(self, backbone: PromptableBackbone, count: int, category: str = "") -> Float[torch.Tensor, "n d"]:
        """Input embeddings, fewer where the text encoder has room for fewer; of a category, or of none."""
        count = room(backbone, count)
        if self._template is None:
            tokens = backbone.drawn_tokens(count, generator(self._seed, "prompt", *[category] * bool(category)))
        else:
            tokens = backbone.told_tokens(in_words(self._template, category).strip(), count)
        return tokens.detach().to("cpu", torch.float32).clone()

    def states(self, backbone: PromptableBackbone) -> Float[torch.Tensor, "l c"]:
        """What the cross-attentions are given: uniform in [0, 1), as published, or the states of the words."""
        if self._template is None:
            return torch.rand(backbone.states_shape, generator=generator(self._seed, "prompt"))
        return backbone.states_of_text(in_words(self._template, "").strip())[0].detach().cpu().clone()


class SinglePrompt(nn.Module):
    """Tokens that are the same for every image."""

    def __init__(self, backbone: PromptableBackbone, *, count: int, beginning: Beginning) -> None:
        super().__init__()
        self.tokens = nn.Parameter(beginning.tokens(backbone, count))

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
        beginning: of the tokens.
        unseen: the category whose tokens another category takes; `text` gives that the template.
        template: of the prompt in words.
    """

    def __init__(
        self,
        backbone: PromptableBackbone,
        *,
        categories: Sequence[str],
        count: int,
        beginning: Beginning,
        unseen: str,
        template: str,
    ) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.stack([beginning.tokens(backbone, count, name) for name in categories]))
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
    """What the text encoder would give, learnt for all images without one."""

    def __init__(self, backbone: PromptableBackbone, *, beginning: Beginning) -> None:
        super().__init__()
        self.hidden = nn.Parameter(beginning.states(backbone))

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

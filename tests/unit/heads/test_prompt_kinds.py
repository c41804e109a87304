"""The prompts of one image."""

import logging

import pytest
import torch

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import PromptableBackbone
from matchkit.heads.prompt_kinds import (
    Beginning,
    ClassPrompt,
    HiddenStatePrompt,
    SinglePrompt,
    TextPrompt,
    category_of,
    in_words,
    room,
)

TEMPLATE = "a photo of a {category}"


def of_classes(backbone: PromptableBackbone, unseen: str = "text") -> ClassPrompt:
    return ClassPrompt(
        backbone, categories=("cat", "dog"), count=3, beginning=Beginning(seed=0), unseen=unseen, template=TEMPLATE
    )


def test_a_copys_category_is_its_images() -> None:
    assert [category_of(name) for name in ("dog/2009_1", "dog/2009_1@flip", "a/b/c")] == ["dog", "dog", "a"]


def test_other_braces_of_a_template_stay() -> None:
    assert in_words("{category} {x}", "dog") == "dog {x}"


def test_no_more_tokens_than_there_is_room_for(promptable: PromptableBackbone) -> None:
    assert (room(promptable, 75), room(promptable, 2)) == (5, 2)
    assert SinglePrompt(promptable, count=75, beginning=Beginning(seed=0)).tokens.shape == (5, 8)
    with pytest.raises(ConfigError, match="0 tokens were asked for, and there is room for 5"):
        room(promptable, 0)


def test_one_prompt_is_for_all_images(promptable: PromptableBackbone) -> None:
    prompt = SinglePrompt(promptable, count=3, beginning=Beginning(seed=0))
    states = prompt.states(promptable, ["dog/1", "cat/2"])
    assert torch.equal(states, promptable.states_of_tokens(prompt.tokens[None]))


def test_prompts_begin_as_words_of_their_own_and_of_the_seed(promptable: PromptableBackbone) -> None:
    tokens = of_classes(promptable).tokens
    assert tokens.shape == (2, 3, 8)
    assert not torch.equal(tokens[0], tokens[1])
    assert torch.equal(tokens, of_classes(promptable).tokens)
    assert not torch.equal(
        SinglePrompt(promptable, count=3, beginning=Beginning(seed=1)).tokens,
        SinglePrompt(promptable, count=3, beginning=Beginning(seed=0)).tokens,
    )


def test_a_categorys_prompt_does_not_depend_on_the_other_categories(promptable: PromptableBackbone) -> None:
    alone = ClassPrompt(
        promptable, categories=("dog",), count=3, beginning=Beginning(seed=0), unseen="text", template=TEMPLATE
    )
    assert torch.equal(alone.tokens[0], of_classes(promptable).tokens[1])


def test_an_image_has_the_prompt_of_its_category(promptable: PromptableBackbone) -> None:
    prompt = of_classes(promptable)
    states = prompt.states(promptable, ["dog/1", "cat/2", "dog/3@flip"])
    expected = [promptable.states_of_tokens(prompt.tokens[row][None])[0] for row in (1, 0, 1)]
    torch.testing.assert_close(states, torch.stack(expected))


def test_an_unseen_category_falls_back_to_words_and_says_so_once(
    promptable: PromptableBackbone, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = of_classes(promptable)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            states = prompt.states(promptable, ["cow/1", "cat/2", "hen/3", "cow/4"])
    assert [record.message for record in caplog.records] == [
        f"category '{name}' was not trained on: its prompt is 'a photo of a {name}'" for name in ("cow", "hen")
    ]
    assert torch.equal(states[0], promptable.states_of_text("a photo of a cow")[0])
    assert torch.equal(states[2], promptable.states_of_text("a photo of a hen")[0])
    assert torch.equal(states[0], states[3])


def test_an_unseen_category_falls_back_to_another_ones_prompt(
    promptable: PromptableBackbone, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = of_classes(promptable, unseen="dog")
    with caplog.at_level(logging.WARNING):
        cow, dog = prompt.states(promptable, ["cow/1", "dog/2"])
    assert torch.equal(cow, dog)
    assert [record.message for record in caplog.records] == [
        "category 'cow' was not trained on: its prompt is that of dog"
    ]


def test_hidden_states_begin_between_0_and_1(promptable: PromptableBackbone) -> None:
    prompt = HiddenStatePrompt(promptable, beginning=Beginning(seed=0))
    states = prompt.states(promptable, ["dog/1"])
    assert states.shape == (1, 7, 8)
    assert 0 <= states.min() < 0.1 < 0.9 < states.max() < 1


def test_words_are_of_each_images_category(promptable: PromptableBackbone) -> None:
    states = TextPrompt(TEMPLATE).states(promptable, ["dog/1", "cat/2", "dog/3"])
    expected = [promptable.states_of_text(f"a photo of a {name}")[0] for name in ("dog", "cat", "dog")]
    assert torch.equal(states, torch.stack(expected))
    assert list(TextPrompt(TEMPLATE).parameters()) == []


def test_a_prompt_begins_as_the_words_of_its_category(promptable: PromptableBackbone) -> None:
    begun = Beginning(seed=0, template=TEMPLATE)
    classes = ClassPrompt(
        promptable, categories=("cat", "dog"), count=3, beginning=begun, unseen="text", template=TEMPLATE
    )
    told = TEMPLATE.replace("{category}", "dog")
    assert torch.equal(classes.tokens[1], promptable.told_tokens(told, 3))
    single = SinglePrompt(promptable, count=3, beginning=begun)
    assert torch.equal(single.tokens, promptable.told_tokens(TEMPLATE.replace("{category}", "").strip(), 3))
    hidden = HiddenStatePrompt(promptable, beginning=begun)
    assert torch.equal(hidden.hidden, promptable.states_of_text(TEMPLATE.replace("{category}", "").strip())[0])

"""Tables of presets, of one stage and of several."""

import pytest

from matchkit.core.errors import UnknownNameError
from matchkit.core.presets import Presets, PresetsByStage

COOK = Presets("cook", "pot", {"soup": ("clear", {"pot": "deep", "salt": 1}), "stew": ("thick", {"pot": "wide"})})
SERVE = Presets("serve", "dish", {"soup": ("hot", {"dish": "bowl"}), "fondue": ("shared", {"dish": "fork"})})
STAGES = PresetsByStage([COOK, SERVE])


def test_a_table_says_what_each_belongs_to() -> None:
    assert COOK.table() == {"soup": "deep: clear", "stew": "wide: thick"}
    assert STAGES.table() == {
        **{"cook soup": "deep: clear", "cook stew": "wide: thick"},
        **{"serve soup": "bowl: hot", "serve fondue": "fork: shared"},
    }


def test_a_name_means_what_the_stage_makes_of_it() -> None:
    assert STAGES.params("cook", "soup") == {"pot": "deep", "salt": 1}
    assert STAGES.params("serve", "soup") == {"dish": "bowl"}


def test_what_is_handed_out_is_a_copy() -> None:
    COOK.params("soup")["salt"] = 9
    assert COOK.params("soup")["salt"] == 1


def test_a_preset_of_another_stage_is_refused() -> None:
    message = "preset 'stew' is one of cook, not of serve, which has: soup, fondue. Run: matchkit list presets"
    with pytest.raises(UnknownNameError) as refused:
        STAGES.params("serve", "stew")
    assert str(refused.value) == message


def test_a_preset_that_nobody_has_is_refused_with_the_nearest_of_the_stage() -> None:
    with pytest.raises(UnknownNameError, match=r"no preset 'fondu'\. Did you mean 'fondue'\? Run: matchkit list"):
        STAGES.params("serve", "fondu")
    with pytest.raises(UnknownNameError, match=r"no preset 'zzz'\. There are: soup, stew\."):
        STAGES.params("cook", "zzz")


def test_a_stage_without_presets_has_none() -> None:
    assert STAGES.of("wash").table() == {}

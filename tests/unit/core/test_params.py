"""Parameters: dataclass < params.yaml < command line, and what is refused on the way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from matchkit.core.errors import ConfigError
from matchkit.core.params import SECTIONS, build, divide, parse_overrides, read_params, section


@dataclass(frozen=True)
class Params:
    steps: int = 50
    keys: tuple[int, ...] = (49, 0)
    fit: Literal["stretch", "letterbox"] = "stretch"
    prompt: str = ""


@dataclass(frozen=True)
class Others:
    batch: int = 4


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_a_file_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read_params(tmp_path / "params.yaml") == {}


@pytest.mark.parametrize("text", ["", "# all defaults\n"])
def test_a_file_without_a_section_holds_nothing(tmp_path: Path, text: str) -> None:
    assert read_params(written(tmp_path, text)) == {}


def test_sections_are_read(tmp_path: Path) -> None:
    assert read_params(written(tmp_path, "extract:\n  steps: 5\n")) == {"extract": {"steps": 5}}


def test_bad_yaml_is_one_line_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml is not valid YAML: ") as caught:
        read_params(written(tmp_path, "extract: [1,\nmatch: }"))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match=r"params\.yaml is not valid YAML"):
        read_params(tmp_path / "params.yaml")


def test_something_else_than_sections_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must hold a mapping of sections, not list"):
        read_params(written(tmp_path, "- extract"))


def test_an_unknown_section_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml: no parameter 'extrct'\. Did you mean 'extract'\?"):
        read_params(written(tmp_path, "extrct: {}"))
    with pytest.raises(ConfigError, match=f"There are: {', '.join(SECTIONS)}"):
        read_params(written(tmp_path, "zzz: {}"))


def test_a_key_that_is_no_text_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no parameter '1'"):
        read_params(written(tmp_path, "1: {}"))


def test_a_section_within_a_section() -> None:
    data = {"extract": {"pixels": {"cell": 4}, "empty": None}}
    assert section(data, "extract", "pixels", where="p") == {"cell": 4}
    assert section(data, "extract", "empty", where="p") == {}
    assert section(data, "match", "nearest", where="p") == {}
    with pytest.raises(ConfigError, match=r"p: 'extract\.pixels\.cell' must be a mapping, not 4"):
        section(data, "extract", "pixels", "cell", where="p")


def test_overrides_are_yaml() -> None:
    settings = ["steps=5", "keys=[4, 0]", "prompt=a = b", "fit=", "batch = 2"]
    assert parse_overrides(settings) == {"steps": 5, "keys": [4, 0], "prompt": "a = b", "fit": "", "batch": 2}
    assert parse_overrides([]) == {}
    assert parse_overrides(["steps=1", "steps=2"]) == {"steps": 2}


@pytest.mark.parametrize("setting", ["steps", "=5", ""])
def test_an_override_without_key_or_value(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"--set takes key=value, not '{setting}'"):
        parse_overrides([setting])


def test_an_override_that_is_no_yaml() -> None:
    with pytest.raises(ConfigError, match=r"--set keys: '\[1,' is not valid YAML"):
        parse_overrides(["keys=[1,"])


def test_build_takes_defaults_for_what_is_not_told() -> None:
    assert build(Params, {}, where="p") == Params()
    assert build(Params, {"keys": [3, 1]}, where="p") == Params(keys=(3, 1))


def test_the_command_line_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    told = section(read_params(written(tmp_path, "extract: {steps: 5, fit: letterbox}")), "extract", where="p")
    assert build(Params, told | parse_overrides(["steps=7"]), where="p") == Params(steps=7, fit="letterbox")


def test_a_misspelt_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"extract: no parameter 'promt'\. Did you mean 'prompt'\?"):
        build(Params, {"promt": "a"}, where="extract")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": "many"}, r"p: steps: .*integer.*got 'many'"),
        ({"steps": 1.5}, r"p: steps: .*got 1\.5"),
        ({"keys": [1, "x"]}, r"p: keys\.1: .*got 'x'"),
        ({"fit": "crop"}, r"p: fit: .*'stretch' or 'letterbox'.*got 'crop'"),
        ({"prompt": 3}, "p: prompt: .*string.*got 3"),
        ({"steps": None}, "p: steps: .*got None"),
    ],
)
def test_a_value_of_the_wrong_type_names_its_place(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Params, values, where="p")


def test_divide_deals_out_to_those_that_have_the_field() -> None:
    assert divide({"steps": 5, "batch": 2}, [Params, Others], where="p") == [{"steps": 5}, {"batch": 2}]
    with pytest.raises(ConfigError, match=r"p: no parameter 'bach'\. Did you mean 'batch'\?"):
        divide({"bach": 2}, [Params, Others], where="p")

"""What a spec records of a backbone's parameters."""

from dataclasses import dataclass

from matchkit.extract.backbones.options import departures


@dataclass(frozen=True, slots=True)
class Params:
    resample: str = "bilinear"
    bars: float = 0.5
    oriented: bool = False
    other: int = 1


def test_only_what_is_named_and_not_at_its_default() -> None:
    assert departures(Params(), "resample", "bars", "oriented") == {}
    assert departures(Params(bars=0.0, oriented=True, other=2), "resample", "bars") == {"bars": 0.0}
    assert departures(Params("bicubic", oriented=True), "oriented", "resample") == {
        "oriented": True,
        "resample": "bicubic",
    }

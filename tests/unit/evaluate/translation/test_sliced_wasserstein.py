"""SWD: what it must be whatever the recipe, and the parts of the recipe by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float
from scipy import ndimage

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.evaluate.translation.sliced_wasserstein import (
    PatchSet,
    SlicedWasserstein,
    SwdSettings,
    laplacian_pyramid,
    sliced_wasserstein,
    swd,
)

Pictures = list[Float[np.ndarray, "h w c"]]
FEW = SwdSettings(patches=32, repeats=2, directions=32)


def scenes(seed: int, count: int = 6, side: int = 64) -> Pictures:
    """Pictures with structure at all scales: discs of random colours over noise."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    pictures = []
    for _ in range(count):
        picture = 0.1 * draw.random((side, side, 3))
        for _ in range(8):
            at, reach = draw.random(2) * side, side * (0.05 + 0.2 * draw.random())
            picture[np.hypot(y - at[0], x - at[1]) < reach] = draw.random(3)
        pictures.append(picture.astype(np.float32))
    return pictures


def blurred(pictures: Pictures, sigma: float) -> Pictures:
    return [ndimage.gaussian_filter(picture, (sigma, sigma, 0)) for picture in pictures]


def taken(pictures: Pictures, settings: SwdSettings = FEW) -> PatchSet:
    patches = PatchSet(settings)
    for picture in pictures:
        patches.add(picture)
    return patches


def test_a_set_is_nothing_from_itself() -> None:
    found = swd(scenes(0), scenes(0), settings=FEW)
    assert found.levels == {"64": 0, "32": 0, "16": 0}
    assert found.mean == 0


def test_other_pictures_of_the_same_kind_are_nearer_than_blurred_ones() -> None:
    scene = scenes(0, 12)
    alike, blurry = (swd(scene, other, settings=FEW) for other in (scenes(1, 12), blurred(scenes(1, 12), 2)))
    assert 0 < alike.mean < blurry.mean


def test_it_is_symmetrical_and_repeatable() -> None:
    there, back = swd(scenes(0), scenes(1, 4), settings=FEW), swd(scenes(1, 4), scenes(0), settings=FEW)
    assert there.levels == back.levels
    assert there.pictures == (6, 4)
    assert back.pictures == (4, 6)
    assert there == swd(scenes(0), scenes(1, 4), settings=FEW)
    assert there.levels != swd(scenes(0), scenes(1, 4), settings=replace(FEW, seed=1)).levels


def test_it_grows_with_blur() -> None:
    found = [swd(scenes(0), blurred(scenes(0), sigma), settings=FEW).mean for sigma in (0.4, 0.8, 1.6, 3.2)]
    assert found == sorted(found)
    assert found[0] > 1


def test_a_common_shift_of_colour_is_seen_only_by_a_common_measure() -> None:
    moved = {by: [picture + np.asarray([by, 0, 0], np.float32) for picture in scenes(0)] for by in (0.1, 0.2, 0.4)}
    together = replace(FEW, normalise="together")
    found = [swd(scenes(0), pictures, settings=together).mean for pictures in moved.values()]
    assert found == sorted(found)
    assert found[0] > 1
    assert swd(scenes(0), moved[0.4], settings=FEW).mean < 0.01


def test_a_colour_that_follows_another_is_seen_as_published() -> None:
    found = []
    for share in (0.1, 0.3, 0.9):
        mixed = [picture.copy() for picture in scenes(0)]
        for picture in mixed:
            picture[..., 0] = (1 - share) * picture[..., 0] + share * picture[..., 2]
        found.append(swd(scenes(0), mixed, settings=FEW).mean)
    assert found == sorted(found)
    assert found[0] > 1


def test_two_colours_by_hand() -> None:
    """Of one value a set, projections differ by the difference in units of the common deviation, |sum of direction|."""
    settings = SwdSettings(patches=1, patch=1, coarsest=1, repeats=1, directions=5, scale=1.0, normalise="together")
    first, second = ([np.full((1, 1, 1), value)] for value in (0.2, 0.6))
    assert swd(first, second, settings=settings).levels == {"1": pytest.approx(2.0)}


def test_scale_multiplies() -> None:
    first, second = scenes(0), scenes(1)
    assert swd(first, second, settings=FEW).mean == pytest.approx(
        1000 * swd(first, second, settings=replace(FEW, scale=1.0)).mean
    )


def test_the_order_of_pictures_changes_only_the_sample() -> None:
    settings = replace(FEW, patches=512)
    assert (
        swd(scenes(0), scenes(0)[::-1], settings=settings).mean
        < 0.5 * swd(scenes(0), blurred(scenes(0), 2), settings=settings).mean
    )


def test_a_single_picture_and_a_plain_one() -> None:
    plain = [np.full((32, 32, 3), 0.3)]
    assert swd(plain, plain, settings=FEW).mean == 0
    found = swd(scenes(0, 1, 32), plain, settings=FEW)
    assert np.isfinite(found.mean)
    assert found.mean > 1


def test_the_pyramid_adds_up_to_the_picture() -> None:
    picture = scenes(0, 1, 50)[0]
    levels = laplacian_pyramid(picture, coarsest=8)
    assert [level.shape for level in levels] == [(50, 50, 3), (25, 25, 3), (13, 13, 3)]
    flat = laplacian_pyramid(np.full((33, 32, 3), 0.7, np.float32), coarsest=8)
    assert all(np.allclose(level, 0, atol=1e-6) for level in flat[:-1])
    assert np.allclose(flat[-1], 0.7)


def test_memory_is_bounded_and_the_sample_fair() -> None:
    settings = replace(FEW, kept=100)
    patches = taken([np.full((16, 16, 1), float(value)) for value in range(50)], settings)
    (sample,) = patches.levels.values()
    assert sample.patches.shape == (100, 1, 7, 7)
    assert len(sample) == 100
    values = sample.patches[:, 0, 0, 0]
    assert len(np.unique(values)) > 35
    assert abs(values.mean() - 24.5) < 6
    assert (np.diff([patch[0, 0, 0] for patch in sample.smallest(100)]) < 0).any()


def test_what_is_kept_are_the_smallest_keys() -> None:
    whole, some = (taken(scenes(0), replace(FEW, kept=kept)) for kept in (1000, 50))
    assert len(whole.levels["64"]) == 6 * FEW.patches
    assert np.array_equal(whole.levels["64"].smallest(50), some.levels["64"].smallest(50))


def test_of_the_greater_set_as_many_are_compared() -> None:
    found = sliced_wasserstein(taken(scenes(0, 2)), taken(scenes(1, 5)))
    assert found.patches == 2 * FEW.patches
    assert isinstance(found, SlicedWasserstein)
    assert found.settings is FEW


def test_sets_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"\(64, 64\) with \(32, 32\)"):
        swd(scenes(0, 1), scenes(0, 1, 32), settings=FEW)
    with pytest.raises(DatasetError, match="not None with"):
        swd([], scenes(0, 1), settings=FEW)
    with pytest.raises(DatasetError, match="number 1 has"):
        taken([*scenes(0, 1), *scenes(0, 1, 32)])
    with pytest.raises(ConfigError, match="different settings"):
        sliced_wasserstein(taken(scenes(0, 1)), taken(scenes(0, 1), replace(FEW, seed=3)))
    with pytest.raises(ConfigError, match="8 x 8 pixels is smaller"):
        taken(scenes(0, 1, 8))


@pytest.mark.parametrize("wrong", [{"patches": 0}, {"patch": 8}, {"patch": 17}, {"scale": -1.0}, {"kept": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="SWD"):
        replace(FEW, **wrong)

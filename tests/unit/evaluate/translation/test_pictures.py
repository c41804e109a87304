"""PSNR, SSIM and part colours against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float
from skimage.metrics import structural_similarity

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.evaluate.translation.pictures import REACH, part_colour_error, psnr, ssim

Picture = Float[np.ndarray, "h w 3"]


def noise(seed: int, height: int = 16, width: int = 20) -> Picture:
    return np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)


def left(height: int = 16, width: int = 20) -> Bool[np.ndarray, "h w"]:
    return np.tile(np.arange(width) < width // 2, (height, 1))


def test_a_tenth_off_everywhere_is_20_db() -> None:
    grey = np.full((4, 4, 3), 0.5)
    assert psnr(grey + 0.1, grey) == pytest.approx(20)


def test_one_colour_of_three_off_by_a_tenth_is_a_third_of_the_square() -> None:
    grey = np.full((4, 4, 3), 0.5)
    assert psnr(grey + np.asarray([0.1, 0, 0]), grey) == pytest.approx(20 + 10 * math.log10(3))


def test_equal_pictures_have_an_infinite_psnr() -> None:
    assert psnr(noise(0), noise(0)) == math.inf


def test_only_masked_pixels_count() -> None:
    truth, where = noise(0), left()
    worse = truth.copy()
    worse[~where] = 1 - worse[~where]
    assert psnr(worse, truth, where=where) == math.inf
    assert psnr(worse, truth) == pytest.approx(psnr(worse, truth, where=~where) + 10 * math.log10(2))


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(0, 99))
def test_psnr_and_ssim_are_symmetrical(one: int, other: int) -> None:
    assert psnr(noise(one), noise(other)) == pytest.approx(psnr(noise(other), noise(one)))
    assert ssim(noise(one), noise(other)) == pytest.approx(ssim(noise(other), noise(one)))


def test_ssim_of_a_picture_with_itself_is_one_and_falls_with_noise() -> None:
    truth = noise(0) / 2
    found = [ssim(truth + share * noise(1) / 2, truth) for share in (0, 0.1, 0.3, 1)]
    assert found[0] == pytest.approx(1)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.9


def test_ssim_of_plain_pictures_is_the_term_of_luminance() -> None:
    dark, light = np.full((12, 12, 3), 0.2), np.full((12, 12, 3), 0.6)
    assert ssim(dark, light) == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4), abs=1e-9)


def test_ssim_within_the_borders_is_scikit_images() -> None:
    picture, truth = noise(0).astype(np.float64), noise(1).astype(np.float64)
    inside = np.zeros((16, 20), dtype=np.bool_)
    inside[REACH:-REACH, REACH:-REACH] = True
    published = structural_similarity(
        truth, picture, channel_axis=2, data_range=1.0, gaussian_weights=True, use_sample_covariance=False
    )
    assert ssim(picture, truth, where=inside) == pytest.approx(published)
    assert ssim(picture, truth) != pytest.approx(published)


def test_ssim_far_from_the_mask_does_not_matter() -> None:
    truth = noise(0, 16, 40)
    worse = truth.copy()
    worse[:, 30:] = 0
    assert ssim(worse, truth, where=np.tile(np.arange(40) < 20, (16, 1))) == pytest.approx(1)


def test_part_colours_by_hand() -> None:
    truth = np.zeros((2, 4, 3))
    picture = np.zeros((2, 4, 3))
    labels = np.array([[0, 1, 1, 7], [0, 1, 1, 7]])
    picture[:, 0] = 1.0
    picture[:, 1], picture[:, 2] = [0.6, 0, 0], [0, 0.8, 0]
    picture[:, 3] = [0.3, 0, 0.4]
    assert part_colour_error(picture, truth, labels) == pytest.approx({1: 0.5, 7: 0.5})
    assert part_colour_error(picture, truth, labels, background=None)[0] == pytest.approx(math.sqrt(3))
    assert list(part_colour_error(picture, truth, labels, background=7)) == [0, 1]


def test_pixels_that_change_places_within_a_part_keep_its_colour() -> None:
    truth = noise(0)
    shuffled = np.random.default_rng(1).permutation(truth.reshape(-1, 3)).reshape(truth.shape)
    assert part_colour_error(shuffled, truth, np.ones((16, 20), np.int64))[1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_an_empty_mask_is_refused(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(DatasetError, match="no pixel"):
        measure(noise(0), noise(1), where=np.zeros((16, 20), dtype=np.bool_))


def test_a_label_map_of_background_is_refused() -> None:
    with pytest.raises(DatasetError, match="label map"):
        part_colour_error(noise(0), noise(1), np.zeros((16, 20), np.int64))


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, math.nan])
def test_values_outside_the_range_are_refused(value: float) -> None:
    wrong = noise(0)
    wrong[3, 3, 1] = value
    with pytest.raises(ConfigError, match=r"the picture lies in .* Clip"):
        psnr(wrong, noise(1))
    with pytest.raises(ConfigError, match="the truth lies in"):
        part_colour_error(noise(1), wrong, np.ones((16, 20), np.int64))


def test_a_picture_smaller_than_the_window_is_refused() -> None:
    with pytest.raises(ConfigError, match="the pictures have 20 x 10"):
        ssim(noise(0, 10), noise(1, 10))
    assert ssim(noise(0, 11), noise(0, 11)) == pytest.approx(1)

"""A picture against the very picture it should be: PSNR, SSIM and the colours of the parts.

Pictures are in [0, 1]; a mask says on which pixels is measured, e.g. on the figure, because a plain background is
easily right. Source: CoCosNet §6.3.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from matchkit.core.errors import ConfigError, DatasetError

SIGMA = 1.5
"""Pixels: of the Gaussian window of SSIM. Source: Wang et al., Image quality assessment, 2004."""
REACH = 5
"""Pixels to each side that the window of SSIM reaches, at 3.5 sigma: it is of 11 x 11."""
WHOLE_RANGE = 1.0


def psnr(
    picture: Float[np.ndarray, "h w 3"],
    truth: Float[np.ndarray, "h w 3"],
    *,
    where: Bool[np.ndarray, "h w"] | None = None,
) -> float:
    """The peak signal-to-noise ratio in dB for a data range of 1, of the mean square over pixels and colours.

    It is infinite where both are the same.

    Args:
        picture: what came out.
        truth: what it should be.
        where: the pixels that count; without it, all.

    Raises:
        ConfigError: a value outside [0, 1].
        DatasetError: no pixel counts.
    """
    chosen = _chosen(picture, truth, where)
    pair = [one.astype(np.float64)[chosen] for one in (truth, picture)]
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(*pair, data_range=WHOLE_RANGE))


def ssim(
    picture: Float[np.ndarray, "h w 3"],
    truth: Float[np.ndarray, "h w 3"],
    *,
    where: Bool[np.ndarray, "h w"] | None = None,
) -> float:
    """The structural similarity, 1 where both are the same: the mean over chosen pixels and colours of its map.

    Settings: each colour by itself, data range 1, Gaussian weights of sigma 1.5 in a window of 11 x 11 mirrored at the
    borders, population covariances, K1 0.01 and K2 0.03. All pixels of the map count, those beside a border too, which
    scikit-image's own mean leaves out. A window at the edge of the mask also sees what lies beyond it.

    Args:
        picture: what came out.
        truth: what it should be.
        where: the pixels that count; without it, all.

    Raises:
        ConfigError: a value outside [0, 1], or a picture smaller than the window.
        DatasetError: no pixel counts.
    """
    chosen = _chosen(picture, truth, where)
    if min(chosen.shape) <= 2 * REACH:
        raise ConfigError(
            f"SSIM looks at {2 * REACH + 1} x {2 * REACH + 1} pixels, the pictures have "
            f"{chosen.shape[1]} x {chosen.shape[0]}. Compare them at a greater size"
        )
    _, similar = structural_similarity(
        truth.astype(np.float64),
        picture.astype(np.float64),
        channel_axis=2,
        data_range=WHOLE_RANGE,
        gaussian_weights=True,
        sigma=SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    return float(similar[chosen].mean())


def part_colour_error(
    picture: Float[np.ndarray, "h w 3"],
    truth: Float[np.ndarray, "h w 3"],
    labels: Int[np.ndarray, "h w"],
    *,
    background: int | None = 0,
) -> dict[int, float]:
    """How far the mean colour of each part is from the one that it should have: the length in RGB, 0 to sqrt(3).

    Args:
        picture: what came out.
        truth: what it should be.
        labels: the part of each pixel.
        background: the label that is no part; None where every label is one.

    Returns:
        By label, of the parts that occur, in ascending order.

    Raises:
        ConfigError: a value outside [0, 1].
        DatasetError: there is no part.
    """
    chosen = _chosen(picture, truth, None if background is None else labels != background)
    found, rows, counts = np.unique(labels[chosen], return_inverse=True, return_counts=True)
    off = picture.astype(np.float64)[chosen] - truth.astype(np.float64)[chosen]
    means = np.stack([np.bincount(rows, weights=colour) / counts for colour in off.T], axis=1)
    return {int(label): float(length) for label, length in zip(found, np.linalg.norm(means, axis=1), strict=True)}


def _chosen(
    picture: Float[np.ndarray, "h w 3"], truth: Float[np.ndarray, "h w 3"], where: Bool[np.ndarray, "h w"] | None
) -> Bool[np.ndarray, "h w"]:
    for name, values in (("picture", picture), ("truth", truth)):
        low, high = (float(end) for end in (values.min(), values.max()))
        if not (low >= 0 and high <= WHOLE_RANGE):
            raise ConfigError(f"the {name} lies in [{low:.4g}, {high:.4g}], not in [0, 1]. Clip or rescale it first")
    chosen = np.ones(picture.shape[:2], dtype=np.bool_) if where is None else where
    if not chosen.any():
        raise DatasetError("no pixel of the picture is to be compared: the mask, or the label map, shows nothing")
    return chosen

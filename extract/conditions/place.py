"""A condition put where its photograph is: into a network's input, and mirrored with it."""

import numpy as np
from jaxtyping import Float
from PIL import Image

from matchkit.core.conditions import LABELS, ConditionSpec
from matchkit.core.errors import ConfigError
from matchkit.core.records import Placement
from matchkit.extract.conditions.pictures import nearest
from matchkit.extract.conditions.pose import PICTURE
from matchkit.extract.conditions.sides import partners

Values = Float[np.ndarray, "c h w"]


def place_condition(values: Values, spec: ConditionSpec, placement: Placement) -> Float[np.ndarray, "c H W"]:
    """A condition of the image frame in the input frame, float32, exactly where its photograph is put.

    Smooth channels are resized as Pillow's bilinear filter does, antialiased; the others take the pixel at which their
    centre lies. Where there is no photograph, on the bars of a letterbox, stands what the spec says.

    Raises:
        ConfigError: the condition is not of the spec's channels, or not as large as the photograph.
    """
    _require_channels(values, spec)
    if values.shape[:0:-1] != placement.image_size:
        raise ConfigError(
            f"a condition of {values.shape[2]} x {values.shape[1]} pixels cannot be placed as a photograph of "
            f"{placement.image_size[0]} x {placement.image_size[1]}"
        )
    inner = (
        round(placement.image_size[0] * placement.scale[0]),
        round(placement.image_size[1] * placement.scale[1]),
    )
    width, height = placement.input_size
    whole = np.empty((len(values), height, width), np.float32)
    whole[:] = np.asarray(spec.outside, np.float32)[:, None, None]
    (of_columns, columns), (of_rows, rows) = (
        _overlap(round(offset), length, side)
        for offset, length, side in zip(placement.offset, inner, placement.input_size, strict=True)
    )
    for channel, smooth in enumerate(spec.smooth):
        resized = _bilinear(values[channel], inner) if smooth else nearest(values[channel], inner)
        whole[channel, rows, columns] = resized[of_rows, of_columns]
    return whole


def mirrored_condition(values: Values, spec: ConditionSpec) -> Values:
    """The condition of the mirrored photograph, in whatever frame it is.

    What the left of the mirrored photograph shows was on the right, and a left eye then is a right one: channels and
    classes are exchanged by their names. Published code leaves them where they are (CoCosNet §7.2 no. 15).

    Raises:
        ConfigError: the condition is not of the spec's channels, or has a picture whose colours tell the sides; the
            joints are mirrored then, and rendered.
    """
    _require_channels(values, spec)
    if set(PICTURE) <= set(spec.channels):
        raise ConfigError(
            "a skeleton's picture cannot be mirrored, for its colours tell left from right: mirror the joints and "
            "render them (matchkit.extract.conditions.pose.mirrored_joints); a dataset does for '<image>@flip'"
        )
    turned = values[:, :, ::-1]
    if spec.channels == (LABELS,):
        classes = np.asarray(partners(spec.classes), np.float32)
        return classes[turned.astype(np.int64)]
    return np.ascontiguousarray(turned[partners(spec.channels)])


def _require_channels(values: Values, spec: ConditionSpec) -> None:
    if len(values) != len(spec.channels):
        raise ConfigError(f"a condition of {len(values)} channels is none of {', '.join(spec.channels)}")


def _overlap(offset: int, length: int, side: int) -> tuple[slice, slice]:
    """What lies within an input's side of something so long that begins at the offset, and where it lies."""
    begin, end = max(offset, 0), min(offset + length, side)
    return slice(begin - offset, end - offset), slice(begin, end)


def _bilinear(channel: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    if channel.shape == size[::-1]:
        return channel
    return np.asarray(Image.fromarray(channel.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))

"""A pose rendered: the picture of its skeleton, and how far each pixel is from each limb.

Source: CoCosNet §4.3.
"""

import numpy as np
from jaxtyping import Bool, Float

from matchkit.core.conditions import ConditionSpec
from matchkit.core.errors import ConfigError
from matchkit.core.geometry import posed_points
from matchkit.extract.conditions.distances import FAR, STEP, distance_map
from matchkit.extract.conditions.sides import partners
from matchkit.extract.conditions.skeletons import OPENPOSE_18, Skeleton

PICTURE = ("red", "green", "blue")
"""The channels of a skeleton's picture. A colour stands for one side of the body, so it cannot be mirrored."""
CANVAS = 256
"""Pixels of the longer side on which the published sizes hold."""
RADIUS = 4.0
"""Pixels of a joint's disc, and of half a limb's width, on a canvas of 256."""
OLD, NEW = 0.4, 0.6
"""How a limb is blended with what lies under it."""
Joints = Float[np.ndarray, "n 2"]
Window = tuple[slice, slice, Bool[np.ndarray, "_ _"]]
"""Rows and columns of a canvas, and which of their pixels belong to a shape."""


def pose_spec(skeleton: Skeleton = OPENPOSE_18) -> ConditionSpec:
    """What a pose is made of: three channels of the picture, then a distance a limb."""
    limbs = len(skeleton.limbs)
    return ConditionSpec(
        kind="pose",
        channels=(*PICTURE, *skeleton.limb_names),
        smooth=(False,) * 3 + (True,) * limbs,
        outside=(0.0,) * 3 + (FAR,) * limbs,
    )


def zoom_of(size: tuple[int, int]) -> float:
    """The zoom at which a photograph of (width, height) pixels is drawn as the published ones of 256 pixels are."""
    return max(max(size) / CANVAS, 1 / RADIUS)


def render_pose(
    joints: Joints, *, size: tuple[int, int], skeleton: Skeleton = OPENPOSE_18, zoom: float = 1.0
) -> Float[np.ndarray, "c h w"]:
    """The condition of a pose, float32 in [0, 1], as `pose_spec` says.

    Args:
        joints: (x, y) of each joint of the skeleton, NaN where it is not seen; pixel centres at integers.
        size: (width, height) of the photograph in pixels.
        skeleton: of which the joints are.
        zoom: how much larger than 4 pixels discs and limbs are drawn, and how much more than 3 pixels a step of the
            distances is. CoCosNet draws at 1 on 256 pixels, CoCosNet v2 at 5 on 1024.

    Raises:
        ConfigError: another number of joints than the skeleton has, or a zoom that leaves no pixel to a disc.
    """
    if len(joints) != len(skeleton.joints):
        raise ConfigError(f"a pose of this skeleton has {len(skeleton.joints)} joints, not {len(joints)}")
    radius = RADIUS * zoom
    if not radius >= 1:
        raise ConfigError(f"zoom must be {1 / RADIUS:g} or more, for a disc of at least a pixel, not {zoom:g}")
    values = np.empty((len(PICTURE) + len(skeleton.limbs), size[1], size[0]), np.float32)
    picture = np.zeros((size[1], size[0], 3), np.float32)
    points, colours = joints.astype(np.float64), skeleton.colours
    seen = np.asarray(np.isfinite(points).all(axis=1))
    for joint in np.flatnonzero(seen):
        rows, columns, inside = _ellipse(points[[joint, joint]], radius=radius, size=size)
        picture[rows, columns][inside] = colours[joint]
    for n, limb in enumerate(skeleton.limbs):
        shape = np.zeros(size[::-1], np.bool_)
        if seen[list(limb)].all():
            rows, columns, inside = _ellipse(points[list(limb)], radius=radius, size=size)
            under = picture[rows, columns]
            under[inside] = np.rint(OLD * under[inside] + NEW * colours[n])  # kept as 8 bits
            shape[rows, columns] = inside
        values[len(PICTURE) + n] = distance_map(shape, step=STEP * zoom)
    values[: len(PICTURE)] = picture.transpose(2, 0, 1) / 255
    return values


def mirrored_joints(joints: Joints, *, size: tuple[int, int], skeleton: Skeleton = OPENPOSE_18) -> Joints:
    """The joints of the mirrored photograph of (width, height) pixels: its left knee was the right one."""
    return posed_points(joints, size, "hflip")[partners(skeleton.joints)]


def _ellipse(ends: Joints, *, radius: float, size: tuple[int, int]) -> Window:
    """The pixels of an ellipse along a limb, of half the limb's length and of the radius; a disc where its ends meet.

    Pixels whose centres lie on its edge belong to it.
    """
    (x, y), (along_x, along_y) = ends.mean(axis=0), (ends[1] - ends[0]) / 2
    length = float(np.hypot(along_x, along_y))
    # the ellipse of two joints on one spot would have no length
    half, cos, sin = (length, along_x / length, along_y / length) if length >= 1 else (radius, 1.0, 0.0)
    reach = max(half, radius)
    left, top = (max(int(np.floor(at - reach)), 0) for at in (x, y))
    right, bottom = (min(int(np.ceil(at + reach)) + 1, side) for at, side in zip((x, y), size, strict=True))
    dy, dx = np.ogrid[top : max(bottom, top), left : max(right, left)]
    dx, dy = dx - x, dy - y
    inside = ((dx * cos + dy * sin) / half) ** 2 + ((dy * cos - dx * sin) / radius) ** 2 <= 1 + 1e-9
    return slice(top, max(bottom, top)), slice(left, max(right, left)), inside

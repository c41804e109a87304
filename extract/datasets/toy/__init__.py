"""Five categories of parametric shapes, rendered with exact keypoints: a dataset made on this machine."""

from matchkit.extract.datasets.toy.keypoints import CATEGORIES, KEYPOINT_NAMES, SCHEMES
from matchkit.extract.datasets.toy.render import Rendering, render
from matchkit.extract.datasets.toy.scene import Instance, View, sample_instance, sample_view
from matchkit.extract.datasets.toy.write import ToySizes, make_toy

__all__ = [
    "CATEGORIES", "KEYPOINT_NAMES", "SCHEMES", "Instance", "Rendering", "ToySizes", "View",
    "make_toy", "render", "sample_instance", "sample_view",
]  # fmt: skip

"""Where the images of a dataset lie in a network's input and on a grid."""

from collections.abc import Mapping
from dataclasses import dataclass

from matchkit.core.geometry import KEYPOINT_RULES, KeypointRuleName, Points, place, posed_points
from matchkit.core.poses import Pose, pose_of, posed, unposed_id
from matchkit.core.records import ImageRecord, Placement
from matchkit.core.spec import FeatureSpec


@dataclass(frozen=True, slots=True)
class Frames:
    """Where the images of a dataset, and their posed copies, lie in a network's input and on a grid.

    Attributes:
        images: the dataset's, by id.
        spec: of the features.
        grid: (height, width) of the descriptor map in cells.
        rule: how points change between the image frame and the grid frame.
    """

    images: Mapping[str, ImageRecord]
    spec: FeatureSpec
    grid: tuple[int, int]
    rule: KeypointRuleName = "centre"

    def placement(self, image_id: str) -> Placement:
        """Of an image, or of a posed copy."""
        record = posed(self.images[unposed_id(image_id)], pose_of(image_id))
        return place(record.size, self.spec.input_size, fit=self.spec.fit)

    def to_grid(self, image_id: str, points: Points) -> Points:
        """Takes points of an image from the image frame to the grid frame."""
        return KEYPOINT_RULES[self.rule].to_grid(points, self.placement(image_id), self.grid)

    def to_image(self, image_id: str, points: Points) -> Points:
        """Takes points of an image from the grid frame to the image frame."""
        return KEYPOINT_RULES[self.rule].to_image(points, self.placement(image_id), self.grid)

    def posed(self, image_id: str, points: Points, pose: Pose) -> Points:
        """Where points of an image lie in its copy in a pose; both in their image frames.

        A rule that has pixels' corners at integers mirrors about half the width, as published.
        """
        width, height = self.images[image_id].size
        more = 1 if self.rule in ("corner", "patch") else 0
        return posed_points(points, (width + more, height + more), pose)

    def published_cells(self, image_id: str, points: Points) -> Points:
        """Takes points of the grid from the frame in which the published KAP has them to the image frame.

        There the cells lie at integers and the input's upper left corner at zero. Source: GeoAware-SC §5.6.
        """
        return KEYPOINT_RULES["corner"].to_image(points, self.placement(image_id), self.grid)

"""Labels of classes."""

import numpy as np
import pytest

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.extract.conditions.masks import mask_spec, render_mask

SPEC = mask_spec(("wall", "floor", "sky"))


def test_a_mask_is_one_channel_of_labels() -> None:
    assert (SPEC.kind, SPEC.channels, SPEC.smooth, SPEC.outside) == ("mask", ("labels",), (False,), (0.0,))
    assert (SPEC.classes, SPEC.width) == (("wall", "floor", "sky"), 3)
    assert mask_spec(("a", "void"), outside=1).outside == (1.0,)
    with pytest.raises(ConfigError, match="a mask has"):
        mask_spec(())


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_])
def test_labels_are_kept_as_they_are(dtype: type) -> None:
    labels: np.ndarray = np.asarray([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    values = render_mask(labels, SPEC, where="a.png")
    assert values.dtype == np.float32
    assert values.tolist() == [[[0, 1], [1, 0], [1, 1]]]


@pytest.mark.parametrize(("label", "told"), [(3, 3), (255, 255), (-1, -1)])
def test_a_label_that_is_no_classs_is_named_with_its_pixel(label: int, told: int) -> None:
    labels = np.zeros((4, 5), np.int64)
    labels[2, 3] = label
    with pytest.raises(
        DatasetError, match=rf"a\.png: pixel \(3, 2\) holds label {told}, but the labels of its 3 classes are 0\.\.2"
    ):
        render_mask(labels, SPEC, where="a.png")

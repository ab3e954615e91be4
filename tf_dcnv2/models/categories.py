"""A data set's own category ids and the detector's labels.

Data sets number their categories as they like (COCO: 80 categories numbered 1 to 90). A detector takes and gives the
data set's ids; inside, label 0 is the background and label i the i-th category.
"""

from collections.abc import Sequence

import tensorflow as tf

PADDING = -1  # the id that fills unused slots of a batch


def given_category_ids(num_classes: int | None, category_ids: Sequence[int] | None) -> Sequence[int]:
    """The category ids of a user who gives either these or their number, for ids from 1 on.

    Raises:
        ValueError: both are given, or neither, or the number is not positive.
    """
    if category_ids is not None and num_classes is None:
        return category_ids
    if num_classes is None or category_ids is not None:
        raise ValueError(
            f"Give either num_classes or category_ids. Received: {num_classes=}, category_ids={category_ids}"
        )
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1 (background not counted). Received: {num_classes=}")
    return range(1, num_classes + 1)


class CategoryMap:
    """Category ids to labels 1..C and back.

    Args:
        category_ids: distinct non-negative ids, in the order of the classifier's outputs.
    """

    def __init__(self, category_ids: Sequence[int]):
        ids = tuple(int(category_id) for category_id in category_ids)
        if not ids or len(set(ids)) != len(ids) or min(ids) < 0:
            raise ValueError(f"category_ids must be distinct non-negative integers. Received: {tuple(category_ids)}")
        self.ids = ids

    def labels(self, category_ids: tf.Tensor) -> tf.Tensor:
        """Labels int32 of category ids of any shape; padding becomes 0.

        Raises:
            InvalidArgumentError: an id that the detector does not know.
        """
        category_ids = tf.cast(category_ids, tf.int32)
        same = category_ids[..., None] == tf.constant(self.ids)
        check = tf.debugging.Assert(
            tf.reduce_all(tf.reduce_any(same, axis=-1) | (category_ids == PADDING)),
            ["targets['classes'] holds a category id that the detector was not built for. It knows", list(self.ids),
             "and takes -1 as padding. Received:", category_ids],
            summarize=100,
        )  # fmt: skip
        with tf.control_dependencies([check] if check is not None else []):
            labels = tf.where(same, tf.range(1, len(self.ids) + 1), 0)
        return tf.reduce_max(labels, axis=-1)

    def category_ids(self, class_indices: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Ids int32 `(B, D)` of class indices 0..C-1 `(B, D)`; padding from each row's `count` on."""
        ids = tf.gather(tf.constant(self.ids), class_indices)
        return tf.where(tf.sequence_mask(count, tf.shape(ids)[1]), ids, PADDING)

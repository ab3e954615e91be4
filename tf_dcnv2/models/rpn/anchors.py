"""Anchor boxes of every cell of a feature map of any size."""

import numpy as np
import tensorflow as tf
from official.vision.ops import anchor_generator


class Anchors:
    """Anchors of several feature levels, K in each cell.

    Args:
        sizes: one tuple per level: sides in pixels of its square anchors.
        aspect_ratios: width / height.
        strides: pixels per cell of each level.
        offset: where in a cell the centre of its anchors lies, in strides.
        rounded: whether corners are rounded to whole pixels around the centre.
        follow_image: whether strides are instead those at which the cells of a level cover the padded image.
    """

    def __init__(
        self,
        sizes: list[tuple[float, ...]],
        aspect_ratios: tuple[float, ...],
        strides: tuple[int, ...],
        *,
        offset: float = 0.5,
        rounded: bool = False,
        follow_image: bool = False,
    ) -> None:
        self.per_cell = len(sizes[0]) * len(aspect_ratios)
        self._strides = strides
        self._offset = offset
        self._follow_image = follow_image
        self._around_zero = [_centred_anchors(level, aspect_ratios, rounded) for level in sizes]

    def __call__(self, features: list[tf.Tensor], image_size: tf.Tensor | None = None) -> list[tf.Tensor]:
        """Boxes `(H*W*K, 4)` in pixels for each `(B, H, W, C)` level, in the order of a reshaped RPN output.

        Args:
            features: of the levels.
            image_size: int32 `(2,)`, height and width of the padded images; needed with `follow_image` only.

        Raises:
            ValueError: it is needed and missing.
        """
        if self._follow_image and image_size is None:
            raise ValueError("image_size must be given where the strides of anchors follow from the image.")
        anchors = []
        for feature, stride, around_zero in zip(features, self._strides, self._around_zero, strict=True):
            cells = tf.shape(feature)[1:3]
            step = tf.fill([2], stride)
            if self._follow_image:
                step = image_size // cells
            anchors.append(self._level(cells, tf.cast(step, tf.float32), around_zero))
        return anchors

    def _level(self, cells: tf.Tensor, step: tf.Tensor, around_zero: np.ndarray) -> tf.Tensor:
        rows, columns = ((tf.range(tf.cast(cells[k], tf.float32)) + self._offset) * step[k] for k in (0, 1))
        rows, columns = tf.meshgrid(rows, columns, indexing="ij")
        centres = tf.stack([rows, columns, rows, columns], axis=-1)
        return tf.reshape(centres[:, :, None, :] + around_zero, [-1, 4])


def _centred_anchors(sizes: tuple[float, ...], aspect_ratios: tuple[float, ...], rounded: bool) -> np.ndarray:
    """The K anchors of a cell `(K, 4)` as if its centre were at (0, 0)."""
    # Model Garden's generator wants static image sizes; an image of one cell gives the anchors of all cells.
    generator = anchor_generator.AnchorGeneratorv1([1.0], [list(map(float, sizes))], [list(aspect_ratios)], [1])
    anchors = tf.reshape(generator((1, 1))[0], [-1, 4]).numpy() - 0.5
    return np.round(anchors) if rounded else anchors

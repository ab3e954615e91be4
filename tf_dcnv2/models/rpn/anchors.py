"""Anchor boxes of every cell of a feature map of any size."""

import numpy as np
import tensorflow as tf
from official.vision.ops import anchor_generator


class Anchors:
    """Anchors of several feature levels. K anchors a cell, centred on it.

    Args:
        sizes: one tuple per level: sides in pixels of its square anchors.
        aspect_ratios: width / height.
        strides: pixels per cell of each level.
    """

    def __init__(self, sizes: list[tuple[float, ...]], aspect_ratios: tuple[float, ...], strides: tuple[int, ...]):
        self.per_cell = len(sizes[0]) * len(aspect_ratios)
        self._strides = strides
        # Model Garden's generator wants static image sizes; an image of one cell gives the K anchors of all cells.
        self._first_cell = [
            tf.reshape(
                anchor_generator.AnchorGeneratorv1([1.0], [list(map(float, level))], [list(aspect_ratios)], [stride])(
                    (stride, stride)
                )[0],
                [-1, 4],
            ).numpy()
            for level, stride in zip(sizes, strides, strict=True)
        ]

    def __call__(self, features: list[tf.Tensor]) -> list[tf.Tensor]:
        """Boxes `(H*W*K, 4)` in pixels for each `(B, H, W, C)` level, in the order of a reshaped RPN output."""
        return [
            self._level(tf.shape(feature)[1], tf.shape(feature)[2], stride, cell)
            for feature, stride, cell in zip(features, self._strides, self._first_cell, strict=True)
        ]

    @staticmethod
    def _level(height: tf.Tensor, width: tf.Tensor, stride: int, cell: np.ndarray) -> tf.Tensor:
        rows = tf.cast(tf.range(height) * stride, tf.float32)
        columns = tf.cast(tf.range(width) * stride, tf.float32)
        rows, columns = tf.meshgrid(rows, columns, indexing="ij")
        shifts = tf.stack([rows, columns, rows, columns], axis=-1)
        return tf.reshape(shifts[:, :, None, :] + cell, [-1, 4])

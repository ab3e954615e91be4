"""Bilinear sampling of feature maps at real positions: the one place where a composite reads a feature.

All maps of a call (images, channel groups, pyramid levels) are laid out as the rows of one table, so that a sample is
four gathered rows wherever it comes from. One row of zeros is appended: everything outside a map reads that row. This
makes "zeros outside" a matter of indices alone: no weight has to be masked, a NaN or Inf feature cannot leak into a
sample that does not touch it, and the derivatives at the border follow from the ordinary formula.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Maps:
    """Where in the table each sample finds its map. The int32 fields broadcast to the shape of the samples.

    Attributes:
        table: `(R, C)`, pixels of all maps, one a row.
        first: row of the table that holds pixel (0, 0).
        height: rows of the map, in pixels.
        width: columns of the map, in pixels.
        step: distance, in table rows, between neighbouring pixels of a map (above 1 if maps are interleaved).
    """

    table: tf.Tensor
    first: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor
    step: int = 1

    def each(self, change: Callable[[tf.Tensor], tf.Tensor]) -> "Maps":
        """The same maps with `change` applied to the fields that are given for every sample."""
        return dataclasses.replace(self, first=change(self.first), height=change(self.height), width=change(self.width))

    def rows_at(self, row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        """Table rows of the integer-valued float positions; the row after the last for positions off the map."""
        row, column = tf.cast(row, tf.int32), tf.cast(column, tf.int32)
        on_map = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        return tf.where(on_map, self.first + (row * self.width + column) * self.step, tf.shape(self.table)[0])


def sample(maps: Maps, row: tf.Tensor, column: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """Interpolates the maps at (row, column) where `inside`, else 0 without any gradient; NaN positions give NaN.

    Args:
        maps: the maps of the samples.
        row: positions along the height in pixels, any real number, Inf and NaN included.
        column: positions along the width, in the same shape.
        inside: bool, False where the operator's border rule discards the sample. Must be False for a position that is
            NaN or more than one pixel outside its map.

    Returns:
        Shape of `row` plus the channels. The gradient with respect to a position is the right-hand one at integers.
    """
    value = _interpolate(maps, tf.where(inside, row, 0), tf.where(inside, column, 0), inside)
    # A NaN position must be noticed, but never become an index: it is added to the value, so that the sample and the
    # gradients of its position are NaN and no feature receives a gradient. The square, because a sum's own
    # derivative would be finite.
    poison = tf.where(tf.math.is_nan(row) | tf.math.is_nan(column), row + column, 0)
    return value + tf.expand_dims(tf.square(poison), -1)


def _interpolate(maps: Maps, row: tf.Tensor, column: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """`sample` for finite positions. Keeps no gathered corner for the backward pass, which gathers them again."""
    table_size = tf.shape(maps.table)[0]
    top, left = tf.floor(row), tf.floor(column)

    def corners(row: tf.Tensor, column: tf.Tensor) -> Iterator[tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]]:
        """Yields, for each corner, its table rows, its weight and that weight's derivatives by row and column."""
        down, right = row - top, column - left
        for row_step, row_weight, row_slope in ((0, 1 - down, -1.0), (1, down, 1.0)):
            for column_step, column_weight, column_slope in ((0, 1 - right, -1.0), (1, right, 1.0)):
                indices = tf.where(inside, maps.rows_at(top + row_step, left + column_step), table_size)
                yield indices, row_weight * column_weight, row_slope * column_weight, row_weight * column_slope

    # One corner after the other: a gathered corner is as large as all samples together, and an executor free to choose
    # would hold the four of them, and their products, at a time.
    @tf.custom_gradient
    def interpolate(table: tf.Tensor, row: tf.Tensor, column: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        padded = tf.pad(table, [[0, 1], [0, 0]])
        value = 0
        for indices, weight, _, _ in corners(row, column):
            with _after(value):
                value += tf.expand_dims(weight, -1) * tf.gather(padded, indices)

        def gradient(dvalue: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            dtable: tf.Tensor = 0  # a number until the first corner is added, see `_after`
            drow = dcolumn = 0
            for indices, weight, weight_by_row, weight_by_column in corners(row, column):
                with _after(dtable):
                    dweight = tf.reduce_sum(dvalue * tf.gather(padded, indices), axis=-1)
                    drow += dweight * weight_by_row
                    dcolumn += dweight * weight_by_column
                with _after(dweight):
                    spread = tf.expand_dims(weight, -1) * dvalue
                    dtable += tf.math.unsorted_segment_sum(spread, indices, table_size + 1)
            return dtable[:-1], drow, dcolumn

        return value, gradient

    return interpolate(maps.table, row, column)


def _after(value: tf.Tensor | int) -> contextlib.AbstractContextManager:
    """Ops made in this scope wait for `value`, unless that is still the number a sum begins with."""
    return tf.control_dependencies([value] if tf.is_tensor(value) else [])

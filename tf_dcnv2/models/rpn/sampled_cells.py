"""The surroundings of a few cells of feature maps: what the outputs of the RPN there depend on.

Losses look at a few hundred of the hundred thousand anchors of an image. Gradients of whole maps of outputs are zero
elsewhere, and yet cost as much as those of any convolution.

Shapes: B images, N cells of any levels and images, C channels.
"""

from typing import NamedTuple

import tensorflow as tf


class Cells(NamedTuple):
    """Cells of feature maps.

    Attributes:
        image: int32 `(N,)`, the image of each.
        level: int32 `(N,)`, its level, 0 for the first.
        row: int32 `(N,)`.
        column: int32 `(N,)`.
    """

    image: tf.Tensor
    level: tf.Tensor
    row: tf.Tensor
    column: tf.Tensor


def cells_of_anchors(
    levels: list[tf.Tensor], image: tf.Tensor, anchor: tf.Tensor, per_cell: int
) -> tuple[Cells, tf.Tensor]:
    """The cells of anchors, and which of its cell's anchors each is, int32 `(N,)`.

    Args:
        levels: `(B, H, W, C)` each.
        image: int32 `(N,)`.
        anchor: int32 `(N,)`, counted through all levels.
        per_cell: anchors of a cell.
    """
    sizes = tf.stack([tf.shape(level)[1:3] for level in levels])
    ends = tf.cumsum(tf.reduce_prod(sizes, axis=1))
    cell = anchor // per_cell
    level = tf.searchsorted(ends, cell, side="right")
    cell -= tf.gather(tf.concat([[0], ends], axis=0), level)
    columns = tf.gather(sizes[:, 1], level)
    return Cells(image, level, cell // columns, cell % columns), anchor % per_cell


def surroundings(levels: list[tf.Tensor], cells: Cells, radius: int) -> tuple[tf.Tensor, tf.Tensor]:
    """What lies around each cell of its level, up to `radius` cells away, with zeros beyond the map.

    Returns:
        The features `(N, 2 * radius + 1, 2 * radius + 1, C)`, and 1 within the map and 0 beyond it
        `(N, 2 * radius + 1, 2 * radius + 1, 1)`, of the same dtype.
    """
    steps = tf.range(-radius, radius + 1)
    places, features, inside = [], [], []
    for number, level in enumerate(levels):
        place = tf.where(cells.level == number)[:, 0]
        rows = tf.gather(cells.row, place)[:, None, None] + steps[:, None]
        columns = tf.gather(cells.column, place)[:, None, None] + steps
        height, width = tf.unstack(tf.shape(level)[1:3])
        within = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        image, rows, columns = (
            tf.broadcast_to(index, tf.shape(within))
            for index in (
                tf.gather(cells.image, place)[:, None, None],
                tf.clip_by_value(rows, 0, height - 1),
                tf.clip_by_value(columns, 0, width - 1),
            )
        )
        within = tf.cast(within, level.dtype)[..., None]
        places.append(tf.cast(place, tf.int32))
        inside.append(within)
        features.append(tf.gather_nd(level, tf.stack([image, rows, columns], axis=-1)) * within)
    return tf.dynamic_stitch(places, features), tf.dynamic_stitch(places, inside)


def convolve_3x3(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolves `(N, S, S, C)` with `(3, 3, C, O)`, unpadded: `(N, S - 2, S - 2, O)`.

    As a product of matrices, which N may be zero for.
    """
    side, factor = x.shape[1] - 2, tf.reshape(kernel, [-1, kernel.shape[-1]])
    if side == 1:
        # The one window is x itself: as a slice, each of the nine would get a gradient as large as x.
        windows = tf.reshape(x, [-1, 1, 1, factor.shape[0]])
    else:
        windows = tf.concat([x[:, i : i + side, j : j + side] for i in range(3) for j in range(3)], axis=-1)
    return tf.tensordot(windows, factor, 1)

"""(Modulated) deformable RoI pooling in plain TensorFlow.

Shapes: N RoIs, P x Q bins an RoI, L feature levels of C channels. What has two axes comes as a list [rows, columns].
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from tf_dcnv2.ops.composite.bilinear import Maps, sample
from tf_dcnv2.ops.composite.roi_geometry import CONVENTIONS, Convention
from tf_dcnv2.ops.roi_grid import RoiGrid
from tf_dcnv2.ops.shapes import after, require, require_indexable, require_shape, sizes_of


def deform_roi_pool(
    features: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor,
    offset: tf.Tensor | None,
    mask: tf.Tensor | None,
    grid: RoiGrid,
) -> tf.Tensor:
    """The composite counterpart of `tf_dcnv2.ops.native.deform_roi_pool`, same arguments.

    The grid's `spatial_scales` and `gamma` may be tensors of the type of `boxes` too.
    """
    geometry = CONVENTIONS[grid.convention]
    checks = _run_time_checks(features, boxes, box_indices, levels, offset, mask, grid)
    boxes, box_indices, levels, offset, mask = after(checks, boxes, box_indices, levels, offset, mask)
    dtype = features[0].dtype
    # Unlike the op's kernels, TensorFlow's would sum samples of 16 bits in 16 bits.
    features = [tf.cast(level, boxes.dtype) for level in after(checks, *features)]
    boxes = tf.stop_gradient(boxes)
    scale = tf.gather(tf.convert_to_tensor(grid.spatial_scales, boxes.dtype), levels)[:, tf.newaxis]
    start, size = geometry.extent(boxes[:, :2], boxes[:, 2:4], scale)
    bin_size = size / tf.constant(grid.output_size, boxes.dtype)
    origin = _bin_origins(start, bin_size, grid.output_size)
    if offset is not None:
        shift = grid.gamma * offset * size[:, tf.newaxis, tf.newaxis, :]
        origin = [origin[axis] + shift[..., axis] for axis in (0, 1)]

    maps = _maps_of_rois(features, box_indices, levels)
    if grid.sampling_ratio:
        pooled = _pool_even_grid(maps, origin, bin_size, geometry, grid.sampling_ratio)
    else:
        pooled = _pool_fitted_grid(maps, origin, bin_size, geometry, grid.output_size)
    return tf.cast(pooled if mask is None else pooled * mask[..., tf.newaxis], dtype)


def _run_time_checks(
    features: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor,
    offset: tf.Tensor | None,
    mask: tf.Tensor | None,
    grid: RoiGrid,
) -> list[tf.Operation]:
    """Checks of the indices, and of what the static shapes left open, to run before anything else.

    The custom op has the same in its kernel.
    """
    rois = tf.shape(boxes)[0]
    limits = {"box_indices": (box_indices, tf.shape(features[0])[0]), "levels": (levels, len(features))}
    checks = require_indexable("features", features)
    for name, (index, limit) in limits.items():
        in_range = tf.reduce_all((index >= 0) & (index < limit))
        checks += require(in_range, f"{name} must be at least 0 and below the limit", expected=limit, received=index)
    expected = {
        "boxes": (boxes, [rois, 4]),
        "box_indices": (box_indices, [rois]),
        "levels": (levels, [rois]),
        "offset": (offset, grid.offset_shape(rois)),
        "mask": (mask, grid.mask_shape(rois)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and not (tensor.shape.is_fully_defined() and boxes.shape.is_fully_defined()):
            checks += require_shape(name, tensor, shape)
    first, *others = ([size[0], size[3]] for size in map(sizes_of, features))
    for other in others:
        same = tf.reduce_all(tf.equal(other, first))
        checks += require(same, "features must agree in batch size and channels", expected=first, received=other)
    return checks


def _bin_origins(start: tf.Tensor, bin_size: tf.Tensor, output_size: Sequence[int]) -> list[tf.Tensor]:
    """`(N, P, Q)` near edges of the bins."""
    cells = tf.meshgrid(*(tf.range(count, dtype=start.dtype) for count in output_size), indexing="ij")
    start, bin_size = start[:, :, tf.newaxis, tf.newaxis], bin_size[:, :, tf.newaxis, tf.newaxis]
    return [start[:, axis] + cells[axis] * bin_size[:, axis] for axis in (0, 1)]


def _maps_of_rois(features: Sequence[tf.Tensor], box_indices: tf.Tensor, levels: tf.Tensor) -> Maps:
    """All levels in one table; for each RoI, shape `(N,)`, the map of its own image and level."""
    sizes = [sizes_of(level) for level in features]
    pixels = [batch * height * width for batch, height, width, _ in sizes]
    channels = sizes[0][3]
    table = [tf.reshape(level, [count, channels]) for level, count in zip(features, pixels, strict=True)]
    height, width, first_of_level = (
        tf.gather(tf.stack(per_level), levels)
        for per_level in (
            [size[1] for size in sizes],
            [size[2] for size in sizes],
            [sum(pixels[:level]) for level in range(len(pixels))],
        )
    )
    return Maps(
        table=table[0] if len(table) == 1 else tf.concat(table, axis=0),
        first=first_of_level + box_indices * height * width,
        height=height,
        width=width,
    )


def _pool_even_grid(
    maps: Maps, origin: list[tf.Tensor], bin_size: tf.Tensor, geometry: Convention, samples: int
) -> tf.Tensor:
    """Averages `samples` x `samples` samples a bin; everything has static shapes if the inputs have."""
    steps = tf.range(samples, dtype=bin_size.dtype) + geometry.phase
    within = (bin_size / samples)[:, :, tf.newaxis] * steps
    row = origin[0][..., tf.newaxis, tf.newaxis] + tf.reshape(within[:, 0], [-1, 1, 1, samples, 1])
    column = origin[1][..., tf.newaxis, tf.newaxis] + tf.reshape(within[:, 1], [-1, 1, 1, 1, samples])
    grid = tf.broadcast_dynamic_shape(tf.shape(row), tf.shape(column))
    row, column = tf.broadcast_to(row, grid), tf.broadcast_to(column, grid)

    values, kept = _sample_clamped(maps.each(lambda field: tf.reshape(field, [-1, 1, 1, 1, 1])), row, column, geometry)
    total = tf.reduce_sum(values, axis=[3, 4])
    if geometry.counts_skipped:
        return total / samples**2
    count = tf.reduce_sum(tf.cast(kept, total.dtype), axis=[3, 4])
    return total / tf.maximum(count, 1)[..., tf.newaxis]


def _pool_fitted_grid(
    maps: Maps, origin: list[tf.Tensor], bin_size: tf.Tensor, geometry: Convention, output_size: Sequence[int]
) -> tf.Tensor:
    """Averages as many samples as a bin has pixels, a number of its own for every RoI and axis.

    The samples of all bins form one flat list, so that the cost is that of the samples there are. Of a bin beyond the
    map only a run of samples is in it; the others are off the map, where they are zero.
    """
    counts = _fitted_counts(bin_size)
    cell = bin_size / tf.maximum(counts, 1)
    visited = _samples_on_map(counts, cell, maps)

    bins_per_roi = output_size[0] * output_size[1]
    bins = tf.size(visited) // 2 * bins_per_roi
    visited_per_roi = visited[:, 0] * visited[:, 1]
    samples = tf.reduce_sum(tf.cast(visited_per_roi, tf.int64)) * bins_per_roi
    checks = require(samples < 2**31, "boxes ask for too many samples", expected="less than 2**31", received=samples)
    (visited_per_roi,) = after(checks, visited_per_roi)
    visited_per_bin = tf.repeat(visited_per_roi, bins_per_roi)
    bin_of = tf.repeat(tf.range(bins), visited_per_bin)
    roi_of = bin_of // bins_per_roi
    position_in_bin = tf.range(tf.size(bin_of)) - tf.gather(tf.cumsum(visited_per_bin, exclusive=True), bin_of)
    columns = tf.gather(visited[:, 1], roi_of)
    index = [position_in_bin // columns, position_in_bin % columns]

    def positions(axis: int) -> tf.Tensor:
        first = _first_sample(origin[axis], counts[:, axis], cell[:, axis], visited[:, axis])
        sample_in_bin = tf.gather(tf.reshape(first, [-1]), bin_of) + tf.cast(index[axis], cell.dtype)
        within = (sample_in_bin + geometry.phase) * tf.gather(cell[:, axis], roi_of)
        return tf.gather(tf.reshape(origin[axis], [-1]), bin_of) + within

    values, _ = _sample_clamped(maps.each(lambda field: tf.gather(field, roi_of)), positions(0), positions(1), geometry)
    total = tf.math.unsorted_segment_sum(values, bin_of, bins)
    samples_per_bin = tf.repeat(tf.maximum(counts[:, 0] * counts[:, 1], 1), bins_per_roi)
    mean = total / samples_per_bin[:, tf.newaxis]
    return tf.reshape(mean, [-1, *output_size, sizes_of(maps.table)[1]])


def _fitted_counts(bin_size: tf.Tensor) -> tf.Tensor:
    """`(N, 2)` samples a bin, integers of the dtype of `bin_size`: the bin's size in pixels, rounded up.

    A box with a NaN gets one sample, which then is NaN too, and so does an infinite one, whose first bin begins at
    0 * infinity. The limit, the custom op's, is one for boxes far larger than any map.
    """
    has_nan = tf.reduce_any(tf.math.is_nan(bin_size) | (bin_size == math.inf), axis=-1, keepdims=True)
    wanted = tf.where(has_nan, tf.ones_like(bin_size), tf.math.ceil(bin_size))
    return tf.clip_by_value(wanted, 0, 2.0**31 - 1)


def _samples_on_map(counts: tf.Tensor, cell: tf.Tensor, maps: Maps) -> tf.Tensor:
    """`(N, 2)` int32: how many of a bin's `counts` samples, `cell` pixels apart, may lie on the map.

    More than one sample are more than half a pixel apart, so that a wild box costs no more than a pass over the map.
    """
    side = tf.cast(tf.stack([maps.height, maps.width], axis=-1), cell.dtype)
    several = counts > 1
    # More than fit: positions are rounded.
    fitting = tf.floor((side + 1) / tf.where(several, cell, 1)) + 4
    return tf.cast(tf.where(several, tf.minimum(counts, fitting), counts), tf.int32)


def _first_sample(origin: tf.Tensor, counts: tf.Tensor, cell: tf.Tensor, visited: tf.Tensor) -> tf.Tensor:
    """`(N, P, Q)`, along one axis: the sample of a bin with which the run of `visited` samples on the map starts."""
    counts, cell, visited = (tf.reshape(tf.cast(each, cell.dtype), [-1, 1, 1]) for each in (counts, cell, visited))
    first = tf.math.ceil((-1 - origin) / tf.where(cell > 0, cell, 1) - 0.5) - 1
    return tf.where(first > 0, tf.minimum(first, counts - visited), 0)


def _sample_clamped(maps: Maps, row: tf.Tensor, column: tf.Tensor, geometry: Convention) -> tuple[tf.Tensor, tf.Tensor]:
    """Samples with the border rule of RoI pooling: far positions are skipped, near ones move onto the map.

    Returns:
        Values, 0 where skipped, and which samples were kept.
    """
    height, width = tf.cast(maps.height, row.dtype), tf.cast(maps.width, column.dtype)
    kept = geometry.keep(row, height) & geometry.keep(column, width)
    is_nan = tf.math.is_nan(row) | tf.math.is_nan(column)
    row = tf.where(is_nan, row, geometry.clamp(row, height))
    column = tf.where(is_nan, column, geometry.clamp(column, width))
    return sample(maps, row, column, kept), kept | is_nan

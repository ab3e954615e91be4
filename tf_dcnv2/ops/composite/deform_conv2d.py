"""Modulated deformable convolution in plain TensorFlow: sample all taps, then one matrix product.

Shapes: B batch, H x W input, Ho x Wo output, C input and O output channels, K = kh*kw taps, G deformable groups.
"""

import tensorflow as tf

from tf_dcnv2.ops.composite.bilinear import Maps, sample
from tf_dcnv2.ops.shapes import Size, after, require, require_indexable, require_shape, sizes_of
from tf_dcnv2.ops.window import Window


def deform_conv2d(
    x: tf.Tensor, kernel: tf.Tensor, offset: tf.Tensor, mask: tf.Tensor | None, window: Window
) -> tf.Tensor:
    """The composite counterpart of `tf_dcnv2.ops.native.deform_conv2d`, same arguments."""
    checks = _run_time_checks(x, kernel, offset, mask, window)
    x, kernel, offset, mask = after(checks, x, kernel, offset, mask)
    dtype = x.dtype
    # Unlike the op's kernels, TensorFlow's would sum samples of 16 bits in 16 bits.
    x, kernel = tf.cast(x, offset.dtype), tf.cast(kernel, offset.dtype)
    batch, height, width, channels = sizes_of(x)
    deformable_groups = window.deformable_groups
    if deformable_groups > 1 and not isinstance(channels, int):
        # No more than that by now; but TensorFlow folds constants, of any size, before it checks anything.
        deformable_groups = tf.minimum(deformable_groups, channels)
    kernel_height, kernel_width, group_channels, filters = sizes_of(kernel)
    _, out_height, out_width, _ = sizes_of(offset)
    taps = kernel_height * kernel_width
    # (group, tap) -> (tap, group) on the small tensors, so that the large one comes out in the kernel's own order.
    by_tap = [batch, out_height, out_width, deformable_groups, taps]
    offset = tf.transpose(tf.reshape(offset, by_tap + [2]), [0, 1, 2, 4, 3, 5])

    (pad_top, _), (pad_left, _) = window.padding_pixels((height, width), (kernel_height, kernel_width))
    tap_row, tap_column = tf.meshgrid(tf.range(kernel_height), tf.range(kernel_width), indexing="ij")
    out_row = tf.range(out_height)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    out_column = tf.range(out_width)[:, tf.newaxis, tf.newaxis]
    fixed_row = out_row * window.strides[0] - pad_top + tf.reshape(tap_row, [-1, 1]) * window.dilations[0]
    fixed_column = out_column * window.strides[1] - pad_left + tf.reshape(tap_column, [-1, 1]) * window.dilations[1]
    # Not by slicing, nor with tf.newaxis below: LiteRT has no strided slice of six dimensions.
    down, right = tf.unstack(offset, axis=-1)
    row = tf.cast(fixed_row, offset.dtype) + down
    column = tf.cast(fixed_column, offset.dtype) + right

    inside = (row > -1) & (row < tf.cast(height, row.dtype)) & (column > -1) & (column < tf.cast(width, column.dtype))
    columns = sample(_deformable_group_maps(x, deformable_groups), row, column, inside)
    if mask is not None:
        # Outside there is no gradient whatever dy is, while the product's, 0 * dy, is NaN for an infinite one.
        mask = tf.transpose(tf.reshape(mask, by_tap), [0, 1, 2, 4, 3])
        learns = inside | tf.math.is_nan(row) | tf.math.is_nan(column)
        columns *= tf.expand_dims(tf.where(learns, mask, tf.stop_gradient(mask)), -1)

    pixels = batch * out_height * out_width
    if all(isinstance(size, int) for size in (channels, group_channels)) and channels == group_channels:
        y = tf.matmul(tf.reshape(columns, [pixels, taps * channels]), tf.reshape(kernel, [taps * channels, filters]))
    else:
        # Not zero by now; but TensorFlow may compute with sizes before it checks them.
        groups = channels // (group_channels if isinstance(group_channels, int) else tf.maximum(group_channels, 1))
        y = tf.einsum(
            "nkgc,kcgo->ngo",
            tf.reshape(columns, [pixels, taps, groups, group_channels]),
            tf.reshape(kernel, [taps, group_channels, groups, filters // groups]),
        )
    return tf.cast(tf.reshape(y, [batch, out_height, out_width, filters]), dtype)


def _run_time_checks(
    x: tf.Tensor, kernel: tf.Tensor, offset: tf.Tensor, mask: tf.Tensor | None, window: Window
) -> list[tf.Operation]:
    """Checks of what the static shapes left open, to run before anything else; none if they are complete.

    The custom op has the same in its kernel; reshaping would otherwise fail without saying what is wrong, or succeed.
    """
    checks = require_indexable("x", [x], window.deformable_groups)
    given = [x, kernel, offset] if mask is None else [x, kernel, offset, mask]
    if all(tensor.shape.is_fully_defined() for tensor in given):
        return checks
    batch, height, width, channels = sizes_of(x)
    kernel_height, kernel_width, group_channels, filters = sizes_of(kernel)
    out_height, out_width = window.output_size((height, width), (kernel_height, kernel_width))
    samples = window.samples_per_pixel((kernel_height, kernel_width))
    groups = channels // tf.maximum(group_channels, 1)

    checks += require(samples > 0, "kernel must not be empty", expected="taps", received=tf.shape(kernel))
    for name, number, divisor_name, divisor in (
        ("channels of x", channels, "deformable_groups", window.deformable_groups),
        ("channels of x", channels, "input channels of kernel", group_channels),
        ("output channels of kernel", filters, "groups that follow from x and kernel", groups),
    ):
        message = f"The {name} must be a positive multiple of the {divisor_name}"
        fits = (number > 0) & (divisor > 0) & tf.equal(number % tf.maximum(divisor, 1), 0)
        checks += require(fits, message, expected=divisor, received=number)
    checks += require_shape("offset", offset, [batch, out_height, out_width, 2 * samples])
    if mask is not None:
        checks += require_shape("mask", mask, [batch, out_height, out_width, samples])
    return checks


def _deformable_group_maps(x: tf.Tensor, deformable_groups: Size) -> Maps:
    """`x` as one map an image and deformable group, in place: the channels of a pixel are G neighbouring rows."""
    batch, height, width, channels = sizes_of(x)
    first_of_image = tf.range(batch) * (height * width * deformable_groups)
    return Maps(
        table=tf.reshape(x, [batch * height * width * deformable_groups, channels // deformable_groups]),
        first=tf.reshape(first_of_image, [-1, 1, 1, 1, 1]) + tf.range(deformable_groups),
        height=tf.convert_to_tensor(height),
        width=tf.convert_to_tensor(width),
        step=deformable_groups,
    )

"""Modulated deformable convolution as a function on tensors."""

from collections.abc import Iterable, Sequence

import tensorflow as tf

from tf_dcnv2.ops import arguments, composite, native
from tf_dcnv2.ops.implementation import choose_implementation
from tf_dcnv2.ops.window import Padding, Window


@tf.autograph.experimental.do_not_convert
def deform_conv2d(
    x: tf.Tensor,
    kernel: tf.Tensor,
    offset: tf.Tensor,
    mask: tf.Tensor | None = None,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "same",
    dilation_rate: int | Sequence[int] = 1,
    deformable_groups: int = 1,
    implementation: str = "auto",
) -> tf.Tensor:
    """Samples `x` at learned positions and convolves: y(p) = sum_k w_k x(p + p_k + dp_k) dm_k.

    Eq. 1 of Deformable ConvNets v2 (arXiv:1811.11168). With `mask=None` it is the v1 operator (dm_k = 1); with offsets
    of zero on top it is an ordinary convolution.

    Shapes: B batch, H x W input, Ho x Wo output, K = kh*kw taps in row-major order, G `deformable_groups`.

    Sampling is bilinear with zeros outside the map. A sample at row <= -1, row >= H, column <= -1 or column >= W is 0
    and has no gradient; at integer positions the gradient is the right-hand one. Infinite offsets sample outside; a NaN
    offset gives NaN in the outputs it feeds.

    Args:
        x: `(B, H, W, C)`, float16, bfloat16, float32 or float64. Sums of 16-bit numbers are formed in float32. On a GPU
            their samples are rounded to 16 bits before, and float32 factors to TF32, as in TensorFlow's own
            convolutions, unless `tf.config.experimental.enable_tensor_float_32_execution(False)`.
        kernel: `(kh, kw, C // groups, O)`, dtype of `x`; `groups` follows from the shapes and divides C and O.
        offset: `(B, Ho, Wo, G*K*2)`, displacement `(dy, dx)` of each tap in input pixels, any real number. The channels
            are ordered (deformable group, tap, (dy, dx)).
        mask: `(B, Ho, Wo, G*K)` modulation, usually in [0, 1]; `None` for v1.
        strides: rows and columns between two windows, an integer or a pair.
        padding: "same" (TensorFlow's and Keras' rule), "valid", pixels on every side, a pair of pixels (rows, columns),
            or ((top, bottom), (left, right)).
        dilation_rate: rows and columns between two taps, an integer or a pair.
        deformable_groups: G; channels `[g*C/G, (g+1)*C/G)` are sampled with the offsets of group g.
        implementation: "native" (custom op), "composite" (plain TensorFlow, the same values and gradients) or "auto":
            native where the library is available, composite under XLA and within `portable_ops()`.

    Returns:
        `(B, Ho, Wo, O)`, dtype of `x`. Positions, offsets and masks are float32 at least (float64 for float64 `x`)
        whatever their own dtype. Differentiable with respect to `x`, `kernel`, `offset` and `mask`.

    Raises:
        ValueError: an argument or a static shape does not fit; the message names it, what it is and what it should be.
        tf.errors.InvalidArgumentError: the same for a shape that is known only when the graph runs (not under XLA).

    Example:
        >>> x = tf.random.normal([1, 8, 8, 16])
        >>> kernel = tf.random.normal([3, 3, 16, 32])
        >>> y = deform_conv2d(x, kernel, offset=tf.zeros([1, 8, 8, 18]), mask=0.5 * tf.ones([1, 8, 8, 9]))
        >>> y.shape
        TensorShape([1, 8, 8, 32])
    """
    window = Window.from_arguments(
        strides=strides, padding=padding, dilation_rate=dilation_rate, deformable_groups=deformable_groups
    )
    return convolve(x, kernel, offset, mask, window, implementation)


@tf.autograph.experimental.do_not_convert
def convolve(
    x: tf.Tensor,
    kernel: tf.Tensor,
    offset: tf.Tensor,
    mask: tf.Tensor | None,
    window: Window,
    implementation: str = "auto",
) -> tf.Tensor:
    """`deform_conv2d` with a window that is checked already, as the layers keep one."""
    x = arguments.float_tensor(x, "x", 4)
    kernel = _kernel_like(x, kernel)
    dtype = arguments.coordinate_dtype(x.dtype)
    offset = arguments.coordinates(offset, "offset", 4, dtype)
    mask = None if mask is None else arguments.coordinates(mask, "mask", 4, dtype)
    _check_channels(x.shape, kernel.shape, window.deformable_groups)
    _check_samples("offset", offset, 2, x.shape, kernel.shape, window)
    if mask is not None:
        _check_samples("mask", mask, 1, x.shape, kernel.shape, window)
    chosen = native if choose_implementation(implementation) == "native" else composite
    return chosen.deform_conv2d(x, kernel, offset, mask, window)


def _kernel_like(x: tf.Tensor, kernel: object) -> tf.Tensor:
    """`kernel` as a tensor of rank 4 in the dtype of `x`; only tensors and variables have a dtype of their own."""
    if isinstance(kernel, tf.Tensor | tf.Variable) and kernel.dtype != x.dtype:
        raise ValueError(
            f"kernel must have the dtype of x, {x.dtype.name}. Received: kernel.dtype={kernel.dtype.name}."
        )
    return arguments.with_rank(arguments.any_tensor(kernel, "kernel", x.dtype), "kernel", 4)


def _check_channels(x: tf.TensorShape, kernel: tf.TensorShape, deformable_groups: int) -> None:
    """Refuses channels and groups that do not divide, as far as they are known."""
    received = f"Received: x.shape={x}, kernel.shape={kernel}"
    channels, group_channels, filters = x[3], kernel[2], kernel[3]
    if 0 in kernel.as_list():
        raise ValueError(f"kernel must not be empty. {received}.")
    if channels is None:
        return
    if channels == 0:
        raise ValueError(f"x must have channels. {received}.")
    if channels % deformable_groups:
        raise ValueError(
            f"deformable_groups must divide the {channels} channels of x. {received}, "
            f"deformable_groups={deformable_groups}."
        )
    if group_channels is None:
        return
    if channels % group_channels:
        raise ValueError(
            f"x has {channels} channels, which must be a multiple of the {group_channels} input channels of kernel "
            f"(axis 2). {received}."
        )
    groups = channels // group_channels
    if filters is not None and filters % groups:
        raise ValueError(
            f"kernel has {filters} output channels, which must be a multiple of the {groups} groups that follow from "
            f"the {channels} channels of x and the {group_channels} input channels of kernel. {received}."
        )


def _check_samples(
    name: str, tensor: tf.Tensor, per_sample: int, x: tf.TensorShape, kernel: tf.TensorShape, window: Window
) -> None:
    """Refuses an offset or mask whose shape is not (B, Ho, Wo, per_sample * G * K), as far as that is known."""
    received = f"Received: {name}.shape={tensor.shape}, x.shape={x}, kernel.shape={kernel}"
    output_size = window.output_size(x[1:3], kernel[:2])
    for pixels, axis in zip(output_size, ("rows", "columns"), strict=True):
        if pixels is not None and pixels < 0:
            raise ValueError(
                f"kernel, with its dilation, has more {axis} than x with its padding. {received}, {window}."
            )
    expected = [x[0], *output_size]
    if not tensor.shape[:3].is_compatible_with(expected):
        raise ValueError(
            f"{name} must have one entry for each image and output pixel: (batch x rows x columns) "
            f"{_by(expected)}, it has {_by(tensor.shape[:3])}. {received}, {window}."
        )
    rows, columns, channels = kernel[0], kernel[1], tensor.shape[3]
    if None in (rows, columns, channels):
        return
    groups = window.deformable_groups
    needed = per_sample * window.samples_per_pixel((rows, columns))
    if channels != needed:
        raise ValueError(
            f"{name} has {channels} channels, but a {rows}x{columns} kernel with {groups} deformable "
            f"group{'s' if groups > 1 else ''} needs {'2*' if per_sample == 2 else ''}{rows * columns}*{groups} = "
            f"{needed}. {received}."
        )


def _by(sizes: Iterable[int | None]) -> str:
    return " x ".join("?" if size is None else str(size) for size in sizes)

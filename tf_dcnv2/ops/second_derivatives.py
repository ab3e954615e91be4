"""Gradients of the native operators' gradient ops, from the composites: second and higher derivatives, forward mode.

A gradient op computes dx = J(x)^T dy. Its own gradient needs the second derivatives of the operator, for which there is
no kernel: the composite, whose values and first gradients are the same, is differentiated twice instead. That takes the
composite's memory, a column matrix for a convolution. `tf.autodiff.ForwardAccumulator` comes here as well: TensorFlow
computes a directional derivative as the gradient of dx with respect to dy.

Importing this module registers the gradients.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_dcnv2.ops import composite
from tf_dcnv2.ops.roi_grid import RoiGrid
from tf_dcnv2.ops.window import Window


def _gradients_of_gradient(
    function: Callable[..., tf.Tensor],
    inputs: Sequence[tf.Tensor],
    dy: tf.Tensor,
    output_gradients: Sequence[tf.Tensor],
) -> list[tf.Tensor]:
    """Gradients of sum(first gradient * `output_gradients`) by `inputs` and `dy`.

    Args:
        function: the operator as a function of `inputs`, all of which it is differentiable by.
        inputs: where the gradients are taken.
        dy: gradient with respect to the operator's output.
        output_gradients: one for each of `inputs`, in the same shape.
    """
    with tf.GradientTape() as second:
        second.watch([*inputs, dy])
        with tf.GradientTape() as first:
            first.watch(inputs)
            y = function(*inputs)
        gradients = first.gradient(y, inputs, dy, unconnected_gradients="zero")
    return second.gradient(gradients, [*inputs, dy], list(output_gradients), unconnected_gradients="zero")


@tf.RegisterGradient("Dcnv2>DeformConv2DGrad")
def _deform_conv2d_grad_gradient(op: tf.Operation, *output_gradients: tf.Tensor) -> list[tf.Tensor | None]:
    *inputs, mask, dy = op.inputs
    if op.get_attr("use_mask"):
        inputs.append(mask)
    window = Window.from_op(op)

    def convolve(x: tf.Tensor, kernel: tf.Tensor, offset: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        return composite.deform_conv2d(x, kernel, offset, mask, window)

    *gradients, ddy = _gradients_of_gradient(convolve, inputs, dy, output_gradients[: len(inputs)])
    return [*gradients, *([None] * (4 - len(inputs))), ddy]


@tf.RegisterGradient("Dcnv2>DeformRoiPoolGrad")
def _deform_roi_pool_grad_gradient(op: tf.Operation, *output_gradients: tf.Tensor) -> list[tf.Tensor | None]:
    count = op.get_attr("L")
    features, (boxes, box_indices, levels, *deformation, scales, gamma, dy) = op.inputs[:count], op.inputs[count:]
    use = op.get_attr("use_offset"), op.get_attr("use_mask")
    grid = RoiGrid.from_op(op, tf.cast(scales, boxes.dtype), tf.cast(gamma, boxes.dtype))

    def pool(*inputs: tf.Tensor) -> tf.Tensor:
        given = iter(inputs[count:])
        offset, mask = (next(given) if used else None for used in use)
        return composite.deform_roi_pool(inputs[:count], boxes, box_indices, levels, offset, mask, grid)

    def used(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return [tensor for tensor, is_used in zip(tensors, use, strict=True) if is_used]

    inputs = [*features, *used(deformation)]
    wanted = [*output_gradients[:count], *used(output_gradients[count:])]
    *gradients, ddy = _gradients_of_gradient(pool, inputs, dy, wanted)
    given = iter(gradients[count:])
    doffset, dmask = (next(given) if is_used else None for is_used in use)
    # Without gradient: boxes, box_indices and levels in between, spatial_scales and gamma before dy.
    return [*gradients[:count], None, None, None, doffset, dmask, None, None, ddy]

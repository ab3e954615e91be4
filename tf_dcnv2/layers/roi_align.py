"""RoIAlign."""

import keras

from tf_dcnv2.layers._roi_pooling import RoIPoolingBase


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class RoIAlign(RoIPoolingBase):
    """Pools each RoI to a grid of bins without rounding its position (aligned RoIAlign, arXiv:1703.06870).

    Values agree with `torchvision.ops.roi_align(aligned=True)` on the same, channels-last, features.

    Example:
        >>> layer = tf_dcnv2.layers.RoIAlign(7, spatial_scale=1 / 16)
        >>> features = keras.random.normal((2, 25, 42, 256))
        >>> boxes = keras.ops.array([[0.0, 0.0, 160.0, 320.0], [32.0, 16.0, 399.0, 90.0]])
        >>> layer(features, boxes, box_indices=keras.ops.array([0, 1])).shape
        TensorShape([2, 7, 7, 256])

    Args:
        output_size: bins an RoI, an integer or a pair (P, Q).
        spatial_scale: feature pixels per image pixel, 1/16 for stride 16; a list with several levels of features.
        sampling_ratio: samples a bin and axis; 0 takes as many as the bin has feature pixels.
        aligned: whether a RoI is shifted by half a feature pixel, so that pixels are sampled at their centres. `False`
            is torchvision's default: no shift, and RoIs are at least one feature pixel high and wide.
        implementation: "auto", "native" or "composite", see `tf_dcnv2.ops.deform_roi_pool`.
        **kwargs: `name`, `dtype`. Under a mixed precision policy boxes stay float32.

    Call arguments:
        features: `(B, H, W, C)`, or a list of such levels with equal B and C.
        boxes: `(N, 4)`, or `(B, N, 4)` with N boxes for each image, `[y1, x1, y2, x2]` in absolute pixels of the image
            the network sees. No gradient.
        box_indices: `(N,)` integers, the image of each box; omitted with boxes `(B, N, 4)`.
        levels: integers, the level of each box, in the shape of `boxes` without its last axis. By default the FPN rule
            for a list that starts with P2, see `tf_dcnv2.ops.deform_roi_pool`.

    Output shape: `(N, P, Q, C)` or `(B, N, P, Q, C)`, in the layer's compute dtype.

    Raises:
        ValueError: an argument or input does not fit; the message names it.
        tf.errors.InvalidArgumentError: `box_indices` or `levels` out of range.
    """

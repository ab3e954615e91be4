"""(Modulated) deformable RoI pooling and RoIAlign as one function on tensors."""

from collections.abc import Sequence

import tensorflow as tf

from tf_dcnv2.ops import arguments, composite, native
from tf_dcnv2.ops.fpn import fpn_levels
from tf_dcnv2.ops.implementation import choose_implementation, under_xla
from tf_dcnv2.ops.roi_grid import RoiGrid


@tf.autograph.experimental.do_not_convert
def deform_roi_pool(
    features: tf.Tensor | Sequence[tf.Tensor],
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    offset: tf.Tensor | None = None,
    mask: tf.Tensor | None = None,
    *,
    output_size: int | Sequence[int] = 7,
    spatial_scale: float | Sequence[float],
    sampling_ratio: int = 2,
    gamma: float = 0.1,
    levels: tf.Tensor | None = None,
    convention: str = "aligned",
    implementation: str = "auto",
) -> tf.Tensor:
    """Pools each RoI in P x Q bins that are moved and weighted: y(k) = dm_k / n_k sum_j x(p_kj + dp_k).

    Eq. 2 of Deformable ConvNets v2 (arXiv:1811.11168). Without `mask` it is the v1 operator, without `offset` too it is
    RoIAlign(aligned=True). The displacement of a bin is dp_k = gamma * offset_k * (RoI height, RoI width).

    Shapes: N RoIs, P x Q bins, B images, L levels of H x W feature pixels (each its own) and C channels.

    A sample more than one pixel outside its map is 0, one that is nearer is moved onto the map. NaN boxes and offsets
    give NaN in the outputs they feed.

    Args:
        features: `(B, H, W, C)`, or a list of them, one a level: float16, bfloat16, float32 or float64. Sums of 16-bit
            numbers are formed in float32.
        boxes: `(N, 4)`, `[y1, x1, y2, x2]` in absolute pixels of the image the network sees. No gradient.
        box_indices: `(N,)` integers in [0, B), the image of each RoI.
        offset: `(N, P, Q, 2)`, (y, x) in units of gamma times the RoI's size; `None` for zeros.
        mask: `(N, P, Q)` modulation, usually in [0, 1]; `None` for ones.
        output_size: bins, an integer or a pair (P, Q).
        spatial_scale: feature pixels per image pixel (1/16 for stride 16), one number a level.
        sampling_ratio: samples a bin and axis; 0 takes the bin's size in feature pixels, rounded up (not under XLA,
            which wants to know how many). A wild box costs no more than a pass over its map: samples off the map count,
            but are not computed.
        gamma: unit of the offsets. 0.1 in DCNv1 and the authors' v2 code; 1 is the paper's literal text.
        levels: `(N,)` integers in [0, L), the level of each RoI. By default the FPN rule, for a list that starts with
            P2: level k of the list is P(2+k), and an RoI goes to P(floor(4 + log2(sqrt(area) / 224))), or to the
            nearest level there is.
        convention: "aligned" (RoIAlign's geometry) or "mxnet" (the original DeformablePSROIPooling with group size 1:
            rounded boxes with the far edge included, samples from the bin's near edge, average over valid samples).
        implementation: "native" (custom op), "composite" (plain TensorFlow, the same values and gradients) or "auto":
            native where the library is available, composite under XLA and within `portable_ops()`.

    Returns:
        `(N, P, Q, C)`, dtype of `features`. Boxes, offsets, masks and positions are float32 at least (float64 for
        float64 features) whatever their own dtype. Differentiable with respect to features, offset and mask.

    Raises:
        ValueError: an argument or a static shape does not fit; the message names it, what it is and what it should be.
        tf.errors.InvalidArgumentError: `box_indices` or `levels` out of range, or a shape that is known only when the
            graph runs does not fit. Not under XLA, where nothing can fail: results are undefined then. The custom op
            on a GPU does not look at `box_indices` and `levels` beforehand: an RoI with one out of range is NaN there,
            and so are the gradients of its offset and mask. It takes at most 16 levels.

    Example:
        >>> features = tf.random.normal([2, 25, 42, 256])
        >>> boxes = tf.constant([[0.0, 0.0, 160.0, 320.0], [32.0, 16.0, 399.0, 90.0]])
        >>> y = deform_roi_pool(features, boxes, box_indices=[0, 1], spatial_scale=1 / 16)
        >>> y.shape
        TensorShape([2, 7, 7, 256])
    """
    grid = RoiGrid.from_arguments(
        output_size=output_size,
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        gamma=gamma,
        convention=convention,
    )
    return pool(features, boxes, box_indices, levels, offset, mask, grid, implementation)


@tf.autograph.experimental.do_not_convert
def pool(
    features: tf.Tensor | Sequence[tf.Tensor],
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor | None,
    offset: tf.Tensor | None,
    mask: tf.Tensor | None,
    grid: RoiGrid,
    implementation: str = "auto",
) -> tf.Tensor:
    """`deform_roi_pool` with a grid that is checked already, as the layers keep one."""
    features = _feature_levels(features)
    if len(grid.spatial_scales) != len(features):
        raise ValueError(
            f"spatial_scale must have one number for each of the {len(features)} levels of features. "
            f"Received: spatial_scale={grid.spatial_scales}."
        )
    dtype = arguments.coordinate_dtype(features[0].dtype)
    boxes = arguments.coordinates(boxes, "boxes", 2, dtype)
    box_indices = arguments.indices(box_indices, "box_indices")
    levels = fpn_levels(boxes, len(features)) if levels is None else arguments.indices(levels, "levels")
    offset = None if offset is None else arguments.coordinates(offset, "offset", 4, dtype)
    mask = None if mask is None else arguments.coordinates(mask, "mask", 3, dtype)
    _check_rois(boxes, box_indices, levels, offset, mask, grid)

    chosen = native if choose_implementation(implementation) == "native" else composite
    if grid.sampling_ratio == 0 and under_xla():
        raise ValueError(
            "sampling_ratio=0 takes as many samples as the boxes ask for, which XLA cannot compile. Give a number of "
            "samples, 2 for example, or use jit_compile=False. Received: sampling_ratio=0."
        )
    return chosen.deform_roi_pool(features, boxes, box_indices, levels, offset, mask, grid)


def _feature_levels(features: object) -> list[tf.Tensor]:
    """`features` as a list of maps of one dtype and as many channels and images."""
    if isinstance(features, list | tuple):
        if not features:
            raise ValueError("features must hold at least one level. Received: an empty list.")
        levels = [arguments.float_tensor(level, f"features[{k}]", 4) for k, level in enumerate(features)]
    else:
        levels = [arguments.float_tensor(features, "features", 4)]
    shape = tf.TensorShape([levels[0].shape[0], None, None, levels[0].shape[3]])
    for k, level in enumerate(levels):
        if level.dtype != levels[0].dtype or not level.shape.is_compatible_with(shape):
            raise ValueError(
                f"features must agree in batch size, channels and dtype: features[{k}] is a {level.dtype.name} "
                f"tensor of shape {level.shape}, features[0] is {levels[0].dtype.name} of shape {levels[0].shape}."
            )
    return levels


def _check_rois(
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor,
    offset: tf.Tensor | None,
    mask: tf.Tensor | None,
    grid: RoiGrid,
) -> None:
    """Refuses static shapes that do not fit the boxes and bins."""
    rois = boxes.shape[0]
    expected = {
        "boxes": (boxes, [None, 4]),
        "box_indices": (box_indices, [rois]),
        "levels": (levels, [rois]),
        "offset": (offset, grid.offset_shape(rois)),
        "mask": (mask, grid.mask_shape(rois)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and not tensor.shape.is_compatible_with(shape):
            wanted = ", ".join("N" if size is None else str(size) for size in shape)
            raise ValueError(
                f"{name} must have the shape ({wanted}) for boxes.shape={boxes.shape} and "
                f"output_size={grid.output_size}. Received: {name}.shape={tensor.shape}."
            )

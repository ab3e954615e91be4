"""What the RoI pooling layers share: the forms their inputs come in, shapes, and the branch that moves the bins.

Shapes: B images, N RoIs (in all, or an image), P x Q bins an RoI, C channels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.layers._observation import as_observed
from tf_dcnv2.layers._roi_branch import RoIBranch
from tf_dcnv2.layers._types import DTypePolicy, Features, IntPair, Regularizer, Shape, Shapes
from tf_dcnv2.ops import arguments
from tf_dcnv2.ops.deform_roi_pool import pool
from tf_dcnv2.ops.fpn import fpn_levels
from tf_dcnv2.ops.implementation import IMPLEMENTATIONS
from tf_dcnv2.ops.roi_grid import RoiGrid
from tf_dcnv2.ops.shapes import after, require


class RoIPoolingBase(keras.layers.Layer):
    """Pools RoIs from one or several levels of features; subclasses may move and weight the bins."""

    def __init__(
        self,
        output_size: IntPair = 7,
        *,
        spatial_scale: float | Sequence[float],
        sampling_ratio: int = 2,
        aligned: bool = True,
        implementation: str = "auto",
        **kwargs: Any,
    ) -> None:
        # Without autocast, which would round boxes to half precision; `call` casts the features.
        super().__init__(autocast=False, **kwargs)
        self._grid = RoiGrid.from_arguments(
            output_size=output_size, spatial_scale=spatial_scale, sampling_ratio=sampling_ratio
        )
        self.output_size = self._grid.output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = self._grid.sampling_ratio
        self.gamma = self._grid.gamma  # of offsets that an observer gives to a layer without
        self.aligned = aligned
        self.implementation = implementation
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(f"implementation must be one of {IMPLEMENTATIONS}. Received: {implementation!r}.")
        # XLA has no kernel for custom ops, and has to know how many samples there are: Keras must not choose
        # jit_compile=True by itself.
        self.supports_jit = implementation == "composite" and self.sampling_ratio > 0

    def call(
        self,
        features: Features,
        boxes: tf.Tensor,
        box_indices: tf.Tensor | None = None,
        levels: tf.Tensor | None = None,
    ) -> tf.Tensor:
        features = self._cast_features(features)
        boxes, box_indices, levels, restore = _as_one_list(features, boxes, box_indices, levels)
        rois = (features, boxes, box_indices, levels)
        return restore(self._pool(*rois, *as_observed(self, rois, *self._sampling(*rois))))

    def _cast_features(self, features: Features) -> Features:
        """The features, one or several levels, in the compute dtype."""
        if isinstance(features, list | tuple):
            return [arguments.real_tensor(one, f"features[{k}]", self.compute_dtype) for k, one in enumerate(features)]
        return arguments.real_tensor(features, "features", self.compute_dtype)

    def _sampling(
        self, features: Features, boxes: tf.Tensor, box_indices: tf.Tensor, levels: tf.Tensor | None
    ) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """The offset `(N, P, Q, 2)` and the modulation `(N, P, Q)` of boxes `(N, 4)`; `None` for those it has not."""
        return None, None

    def _pool(
        self,
        features: Features,
        boxes: tf.Tensor,
        box_indices: tf.Tensor,
        levels: tf.Tensor | None,
        offset: tf.Tensor | None = None,
        mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """`(N, P, Q, C)` from boxes `(N, 4)`."""
        if not self.aligned:
            boxes, levels = _as_aligned(boxes, levels, self._grid.spatial_scales)
        return pool(features, boxes, box_indices, levels, offset, mask, self._grid, self.implementation)

    def compute_output_shape(
        self,
        features_shape: Shapes,
        boxes_shape: Shape,
        box_indices_shape: Shape | None = None,
        levels_shape: Shape | None = None,
    ) -> Shape:
        return (*boxes_shape[:-1], *self.output_size, _channels(features_shape))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "output_size": self.output_size,
            "spatial_scale": self.spatial_scale,
            "sampling_ratio": self.sampling_ratio,
            "aligned": self.aligned,
            "implementation": self.implementation,
        }


class DeformableRoIPoolingBase(RoIPoolingBase):
    """RoI pooling with a branch that looks at each RoI once and then moves its bins.

    Subclasses set `modulated`: whether the branch also predicts a modulation for each bin.
    """

    modulated: bool

    def __init__(
        self,
        output_size: IntPair = 7,
        *,
        spatial_scale: float | Sequence[float],
        sampling_ratio: int = 2,
        aligned: bool = True,
        convention: str = "aligned",
        gamma: float = 0.1,
        hidden_units: int = 1024,
        branch_per_level: bool = False,
        mask_branch: bool = False,
        kernel_regularizer: Regularizer = None,
        branch_dtypes: Sequence[Sequence[DTypePolicy]] | None = None,
        implementation: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            output_size,
            spatial_scale=spatial_scale,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
            implementation=implementation,
            **kwargs,
        )
        if convention == "mxnet" and not aligned:
            raise ValueError(
                "aligned must be True with convention='mxnet', which rounds boxes by a rule of its own. Received: "
                f"aligned={aligned}."
            )
        self._grid = RoiGrid.from_arguments(
            output_size=output_size,
            spatial_scale=spatial_scale,
            sampling_ratio=sampling_ratio,
            gamma=gamma,
            convention=convention,
        )
        self.gamma, self.convention = self._grid.gamma, convention
        self.hidden_units = arguments.integer(hidden_units, "hidden_units", minimum=1)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.branch_per_level, self.mask_branch = bool(branch_per_level), bool(mask_branch)
        # Without XLA, which has to know how many RoIs each level has.
        self.supports_jit = self.supports_jit and not self.branch_per_level

        names = [f"_{level}" for level in range(len(self._grid.spatial_scales))] if self.branch_per_level else [""]
        per_bin = 3 if self.modulated and not self.mask_branch else 2
        # Offsets and modulation are never computed in half precision, whatever the policy.
        hidden, wide = self.dtype_policy, arguments.coordinate_dtype(tf.as_dtype(self.compute_dtype)).name
        masks = names if self.mask_branch else []
        dtypes = branch_dtypes or [[hidden, hidden, wide] for _ in names] + [[hidden, wide] for _ in masks]
        self.branches = [
            self._branch(f"offset_branch{name}", per_bin, of_branch)
            for name, of_branch in zip(names, dtypes[: len(names)], strict=True)
        ]
        self.mask_branches = [
            self._branch(f"mask_branch{name}", 1, of_branch)
            for name, of_branch in zip(masks, dtypes[len(names) :], strict=True)
        ]

    def _branch(self, name: str, values_per_bin: int, dtypes: Sequence[DTypePolicy]) -> RoIBranch:
        return RoIBranch(
            self.hidden_units,
            values_per_bin * self._grid.bins,
            dtypes,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name=name,
        )

    def build(
        self,
        features_shape: Shapes | None = None,
        boxes_shape: Shape | None = None,
        box_indices_shape: Shape | None = None,
        levels_shape: Shape | None = None,
    ) -> None:
        channels = _channels(features_shape)
        if channels is None:
            raise ValueError(f"features must have a known number of channels. Received: {features_shape}.")
        received = f"output_size={self.output_size}, hidden_units={self.hidden_units}, features of {channels} channels"
        for inputs in (self._grid.bins * channels, self.hidden_units, 3 * self._grid.bins):
            arguments.weights_shape((inputs, self.hidden_units), received)
        for branch in (*self.branches, *self.mask_branches):
            branch.build((None, self._grid.bins * channels))

    def sampling(
        self,
        features: Features,
        boxes: tf.Tensor,
        box_indices: tf.Tensor | None = None,
        levels: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """How the layer moves and weights the bins of `boxes`; arguments are those of the layer's call.

        Returns:
            The offset `(N, P, Q, 2)` or `(B, N, P, Q, 2)`, (y, x) in units of `gamma` times the RoI's size, and the
            modulation without the last axis, or `None` for a layer without modulation. float32 at least.
        """
        features = self._cast_features(features)
        boxes, box_indices, levels, restore = _as_one_list(features, boxes, box_indices, levels)
        offset, mask = self._sampling(features, boxes, box_indices, levels)
        return restore(offset), None if mask is None else restore(mask)

    def _sampling(
        self, features: Features, boxes: tf.Tensor, box_indices: tf.Tensor, levels: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        if levels is None and self.branch_per_level:
            levels = fpn_levels(boxes, len(self._grid.spatial_scales))
        pooled = self._pool(features, boxes, box_indices, levels)
        pooled = tf.reshape(pooled, [-1, self._grid.bins * pooled.shape[-1]])
        predicted = _branch_by_level(self.branches, pooled, levels)
        offset = tf.reshape(predicted[:, : 2 * self._grid.bins], [-1, *self.output_size, 2])
        if not self.modulated:
            return offset, None
        if self.mask_branch:
            logits = _branch_by_level(self.mask_branches, pooled, levels)
        else:
            logits = predicted[:, 2 * self._grid.bins :]
        return offset, self._modulation(tf.reshape(logits, [-1, *self.output_size]))

    def _modulation(self, logits: tf.Tensor) -> tf.Tensor:
        """The modulation from what the branch predicts for it; called where the layer is `modulated`."""
        raise NotImplementedError(f"{type(self).__name__} must implement _modulation")

    def get_config(self) -> dict[str, Any]:
        policies = [[layer.dtype_policy for layer in one.layers] for one in (*self.branches, *self.mask_branches)]
        # Only quantisation makes them differ from what the layer's own policy gives.
        quantised = any(policy.quantization_mode for of_branch in policies for policy in of_branch)
        return {
            **super().get_config(),
            "convention": self.convention,
            "gamma": self.gamma,
            "hidden_units": self.hidden_units,
            "branch_per_level": self.branch_per_level,
            "branch_dtypes": [list(map(keras.dtype_policies.serialize, one)) for one in policies]
            if quantised
            else None,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def _serialized(policies: Sequence[Sequence[keras.DTypePolicy]]) -> list[list[Any]]:
    return [[keras.dtype_policies.serialize(policy) for policy in of_branch] for of_branch in policies]


def _branch_by_level(branches: Sequence[RoIBranch], pooled: tf.Tensor, levels: tf.Tensor | None) -> tf.Tensor:
    """What the only branch, or that of each RoI's level, predicts from `pooled` `(N, ...)`."""
    if len(branches) == 1:
        return branches[0](pooled)
    levels = tf.cast(levels, tf.int32)
    rows = tf.dynamic_partition(tf.range(tf.shape(pooled)[0]), levels, len(branches))
    parts = tf.dynamic_partition(pooled, levels, len(branches))
    return tf.dynamic_stitch(rows, [branch(part) for branch, part in zip(branches, parts, strict=True)])


def _as_aligned(
    boxes: tf.Tensor, levels: tf.Tensor | None, spatial_scales: Sequence[float]
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """The boxes `(N, 4)` for which aligned pooling gives what pooling without alignment gives for `boxes`.

    They are half a feature pixel further down and right, and at least one feature pixel high and wide.
    """
    if levels is None and len(spatial_scales) > 1:
        levels = fpn_levels(boxes, len(spatial_scales))
    strides = tf.constant([1.0 / scale for scale in spatial_scales], boxes.dtype)
    stride = (strides[0] if levels is None else tf.gather(strides, levels))[..., tf.newaxis]
    low = boxes[:, :2] + 0.5 * stride
    return tf.concat([low, low + tf.maximum(boxes[:, 2:] - boxes[:, :2], stride)], axis=1), levels


def _as_one_list(
    features: Features, boxes: tf.Tensor, box_indices: tf.Tensor | None, levels: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None, Callable[[tf.Tensor], tf.Tensor]]:
    """Boxes in either form as `(N, 4)` with their image and level, and the way back for results.

    Per-image boxes `(B, N, 4)` need no `box_indices`.
    """
    boxes = arguments.any_tensor(boxes, "boxes")
    if boxes.shape.rank == 3 and box_indices is None:
        boxes = _of_every_image(features, boxes)
        images, rois = tf.shape(boxes)[0], tf.shape(boxes)[1]
        box_indices = tf.repeat(tf.range(images), rois)
        levels = None if levels is None else _flat_levels(levels, boxes)
        leading = boxes.shape[:2]

        def restore(result: tf.Tensor) -> tf.Tensor:
            unflat = tf.reshape(result, tf.concat([[images, rois], tf.shape(result)[1:]], axis=0))
            return tf.ensure_shape(unflat, leading + result.shape[1:])

        return tf.reshape(boxes, [-1, boxes.shape[2]]), box_indices, levels, restore
    if boxes.shape.rank != 2 or box_indices is None:
        raise ValueError(
            "boxes must be (N, 4) with box_indices (N,), or (B, N, 4) without box_indices. Received: "
            f"boxes.shape={boxes.shape}, box_indices={'None' if box_indices is None else 'given'}."
        )
    return boxes, box_indices, levels, lambda result: result


def _of_every_image(features: Features, boxes: tf.Tensor) -> tf.Tensor:
    """Boxes `(B, N, 4)`, refused unless they are for as many images as the features."""
    first = features[0] if isinstance(features, list) and features else features
    if not first.shape[:1].is_compatible_with(boxes.shape[:1]):
        raise ValueError(
            f"boxes must be (B, N, 4) for the B={first.shape[0]} images of features. Received: "
            f"boxes.shape={boxes.shape}."
        )
    if first.shape[:1].is_fully_defined() and boxes.shape[:1].is_fully_defined():
        return boxes
    images, received = tf.shape(first)[0], tf.shape(boxes)[0]
    message = "boxes must be (B, N, 4) for the B images of features"
    (boxes,) = after(require(tf.equal(images, received), message, expected=images, received=received), boxes)
    return boxes


def _flat_levels(levels: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Levels `(B, N)` of boxes `(B, N, 4)` as one list."""
    levels = arguments.any_tensor(levels, "levels")
    if not levels.shape.is_compatible_with(boxes.shape[:2]):
        raise ValueError(
            f"levels must have the shape of boxes without its last axis. Received: levels.shape={levels.shape}, "
            f"boxes.shape={boxes.shape}."
        )
    return tf.reshape(levels, [-1])


def _channels(features_shape: Shapes | None) -> int | None:
    """Channels of one level's shape, or of the first in a list of shapes."""
    shape = features_shape
    if isinstance(shape, list | tuple) and shape and isinstance(shape[0], list | tuple):
        shape = shape[0]
    if not isinstance(shape, list | tuple) or len(shape) != 4 or not isinstance(shape[3], int | None):
        raise ValueError(
            "features must be a tensor (B, H, W, C), or a list of them with at least one level. "
            f"Received: features of shape {features_shape}."
        )
    return shape[3]

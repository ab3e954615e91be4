"""Region proposal network: which anchors hold an object, and where exactly.

Shapes: B images, L levels, A anchors of all levels of an image, P proposals, M object slots.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.models.box_coding import decode_boxes
from tf_dcnv2.models.config import RPNConfig
from tf_dcnv2.models.losses import rpn_losses
from tf_dcnv2.models.parts import take_settings
from tf_dcnv2.models.rpn.anchors import Anchors
from tf_dcnv2.models.rpn.sampled_cells import cells_of_anchors, convolve_3x3, surroundings
from tf_dcnv2.models.suppression import suppress
from tf_dcnv2.models.targets import sample_anchors


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class RPN(keras.layers.Layer):
    """Region proposal network (Ren et al., arXiv:1506.01497): 3x3 and two 1x1 convolutions, shared by all levels.

    Input: a list of `(B, H, W, C)` levels, finest first.
    Output: for each level, objectness logits `(B, H*W*K)` and box deltas `(B, H*W*K, 4)` for K anchors a cell.

    `propose` turns these into boxes. `training_losses` is what is trained.

    Args:
        strides: pixels per cell of each level: `neck.strides["rpn"]`.
        in_channels: channels of every level: `neck.channels["rpn"]`.
        config: an `RPNConfig`; or leave it out and give its fields by keyword. With one level its cells have anchors of
            all `anchor_sizes`, with several each level has one of them.
        kernel_regularizer: of all kernels.

    Raises:
        ValueError: there are several levels, and not one anchor size for each.

    Example:
        >>> rpn = RPN(strides=(16,), in_channels=1024, anchor_sizes=(32, 64, 128))
        >>> logits, deltas = rpn([tf.zeros([1, 14, 14, 1024])])
        >>> deltas[0].shape
        TensorShape([1, 1764, 4])
    """

    def __init__(
        self,
        strides: Sequence[int],
        in_channels: int,
        config: RPNConfig | None = None,
        *,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        config, kwargs = take_settings(RPNConfig, config, kwargs)
        super().__init__(**kwargs)
        self.config = config
        self.strides = tuple(strides)
        self.in_channels = in_channels
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self._anchors = Anchors(
            _sizes_by_level(config, self.strides),
            config.aspect_ratios,
            self.strides,
            offset=config.anchor_offset,
            rounded=config.anchor_rounding,
            follow_image=config.anchor_stride == "image",
        )
        self.shared = [
            self._convolution(
                config.channels,
                3,
                "shared" if number == 0 else f"shared{number + 1}",
                activation="relu",
                dtype=self.dtype_policy,
            )
            for number in range(config.convolutions)
        ]
        # float32 outputs: scores are ranked and boxes are coordinates, whatever the compute dtype.
        self.objectness = self._convolution(self._anchors.per_cell, 1, "objectness", dtype="float32")
        self.boxes = self._convolution(4 * self._anchors.per_cell, 1, "boxes", dtype="float32")

    def _convolution(self, filters: int, size: int, name: str, **arguments: Any) -> keras.layers.Conv2D:
        return keras.layers.Conv2D(
            filters,
            size,
            padding="same",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            kernel_regularizer=self.kernel_regularizer,
            name=name,
            **arguments,
        )

    def build(self, input_shape: Any = None) -> None:
        """Creates the variables. Their shapes follow from the constructor's arguments, whatever `input_shape` is."""
        channels = self.in_channels
        for layer in self.shared:
            layer.build((None, None, None, channels))
            channels = self.config.channels
        for layer in (self.objectness, self.boxes):
            layer.build((None, None, None, self.config.channels))

    def call(self, levels: list[tf.Tensor]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Objectness logits `(B, H*W*K)` and box deltas `(B, H*W*K, 4)` of each level `(B, H, W, C)`."""
        logits, deltas = [], []
        for level in levels:
            batch = tf.shape(level)[0]
            hidden = level
            for layer in self.shared:
                hidden = layer(hidden)
            logits.append(tf.reshape(self.objectness(hidden), [batch, -1]))
            deltas.append(tf.reshape(self.boxes(hidden), [batch, -1, 4]))
        return logits, deltas

    def anchors(self, levels: list[tf.Tensor], image_size: tf.Tensor | None = None) -> list[tf.Tensor]:
        """Boxes `(H*W*K, 4)` in pixels of each level's anchors, in the order of the outputs.

        Args:
            levels: as for a call.
            image_size: int32 `(2,)`, height and width of the padded images; needed with `anchor_stride="image"` only.
        """
        return self._anchors(levels, image_size)

    def propose(
        self,
        logits: list[tf.Tensor],
        deltas: list[tf.Tensor],
        anchors: list[tf.Tensor],
        image_sizes: tf.Tensor,
        training: bool,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The best boxes of each image after non-maximum suppression within each level.

        Args:
            logits: `(B, H*W*K)` of each level, as a call returns them.
            deltas: `(B, H*W*K, 4)` of each level, as a call returns them.
            anchors: `(H*W*K, 4)` of each level, as `anchors` returns them.
            image_sizes: `(B, 2)` true height and width, to which boxes are clipped.
            training: whether the first or the second count of `config.pre_nms` and `config.proposals` applies.

        Returns:
            Boxes `(B, P, 4)` in pixels and their scores `(B, P)`, best first, filled up with zeros. No gradient.
        """
        pre_nms = self.config.pre_nms[0 if training else 1]
        count = self.config.proposals[0 if training else 1]
        boxes, ranks = [], []
        for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
            candidates = tf.minimum(pre_nms, tf.shape(level_logits)[1])
            best = tf.math.top_k(level_logits, candidates)
            decoded = decode_boxes(
                tf.gather(level_deltas, best.indices, batch_dims=1),
                tf.gather(level_anchors, best.indices),
                image_sizes,
                limits=self.config.delta_limits,
            )
            # By their order: logits may be negative, which `suppress` does not take, and probabilities of logits above
            # 17 are all 1.
            order = tf.zeros_like(best.values) + tf.cast(tf.range(candidates, 0, -1), tf.float32)
            kept = suppress(
                decoded[:, :, None, :],
                order[:, :, None],
                count=count,
                iou=self.config.nms_iou,
                smallest_side=self.config.smallest_side,
            )
            place = tf.minimum(candidates - tf.cast(kept.scores, tf.int32), candidates - 1)
            boxes.append(kept.boxes)
            ranks.append(tf.where(kept.scores > 0, tf.gather(best.values, place, batch_dims=1), tf.float32.min))
        boxes, ranks = tf.concat(boxes, axis=1), tf.concat(ranks, axis=1)
        if len(logits) > 1:
            best = tf.math.top_k(ranks, count)
            boxes, ranks = tf.gather(boxes, best.indices, batch_dims=1), best.values
        return tf.stop_gradient(boxes), tf.stop_gradient(tf.sigmoid(ranks))

    def training_losses(
        self,
        levels: list[tf.Tensor],
        anchors: list[tf.Tensor],
        object_boxes: tf.Tensor,
        object_labels: tf.Tensor,
        seeds: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The terms "rpn_class_loss" and "rpn_box_loss" of a random sample of anchors.

        Outputs are computed for the sample alone, with their gradients: those of a call need none.

        Args:
            levels: `(B, H, W, C)` each, as for a call.
            anchors: `(H*W*K, 4)` of each level, as `anchors` returns them.
            object_boxes: `(B, M, 4)` in pixels.
            object_labels: `(B, M)`, 0 in unused slots.
            seeds: int64 `(B, 2)`, what the sample of each image follows from.
        """
        sample = sample_anchors(tf.concat(anchors, axis=0), object_boxes, object_labels, self.config, seeds)
        logits, deltas = self.outputs_of_anchors(levels, sample.image_indices, sample.anchor_indices)
        images = tf.shape(object_boxes)[0]
        return rpn_losses(logits, deltas, sample, images, beta=self.config.box_loss_beta)

    def outputs_of_anchors(
        self, levels: list[tf.Tensor], image_indices: tf.Tensor, anchor_indices: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What a call returns, for a few anchors only.

        Args:
            levels: `(B, H, W, C)` each, as for a call.
            image_indices: int32 `(N,)`, the image of each anchor.
            anchor_indices: int32 `(N,)`, which of the image's anchors, of all levels one after another.

        Returns:
            Their objectness logits `(N,)` and box deltas `(N, 4)`.
        """
        cells, anchor = cells_of_anchors(levels, image_indices, anchor_indices, self._anchors.per_cell)
        hidden, inside = surroundings(levels, cells, radius=len(self.shared))
        for layer in self.shared:
            kernel, bias = (tf.cast(variable, hidden.dtype) for variable in (layer.kernel, layer.bias))
            inside = inside[:, 1:-1, 1:-1]
            # A call pads the output of each convolution with zeros.
            hidden = layer.activation(convolve_3x3(hidden, kernel) + bias) * inside
        hidden = tf.cast(hidden[:, 0, 0], tf.float32)
        logits, deltas = (
            tf.matmul(hidden, layer.kernel[0, 0]) + tf.convert_to_tensor(layer.bias)
            for layer in (self.objectness, self.boxes)
        )
        deltas = tf.reshape(deltas, [-1, self._anchors.per_cell, 4])
        return tf.gather(logits, anchor, batch_dims=1), tf.gather(deltas, anchor, batch_dims=1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments in the form that Keras saves and `from_config` takes."""
        return {
            **super().get_config(),
            "strides": list(self.strides),
            "in_channels": self.in_channels,
            **self.config.to_dict(),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def _sizes_by_level(config: RPNConfig, strides: tuple[int, ...]) -> list[tuple[float, ...]]:
    if len(strides) == 1:
        return [config.anchor_sizes]
    if len(config.anchor_sizes) != len(strides):
        raise ValueError(
            f"anchor_sizes must hold one size for each of the {len(strides)} levels. "
            f"Received: anchor_sizes={config.anchor_sizes}, strides={strides}"
        )
    return [(size,) for size in config.anchor_sizes]

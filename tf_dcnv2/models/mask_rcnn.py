"""Mask R-CNN with deformable convolutions and deformable RoI pooling (paper sec. 5)."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.models.backbones import Backbone
from tf_dcnv2.models.connections import connect_head
from tf_dcnv2.models.faster_rcnn import FasterRCNN, TrainingOutputs
from tf_dcnv2.models.heads import BoxHead, Detections, MaskHead, mask_of_class
from tf_dcnv2.models.losses import mask_loss
from tf_dcnv2.models.necks import Neck
from tf_dcnv2.models.presets import preset_names
from tf_dcnv2.models.replicas import mean_over_replicas
from tf_dcnv2.models.rpn import RPN
from tf_dcnv2.models.targets import mask_targets


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class MaskRCNN(FasterRCNN):
    """Two-stage object detector that also says which pixels belong to each object.

    A `FasterRCNN` with a mask head: everything said there holds, call arguments, `detect`, `from_preset`. The
    detections have one entry more,

        masks           float32 `(B, D, S, S)`, the probability that the object covers each of S x S equal cells of its
                        box, by the mask of the detected class; zeros when unused

    with S = 28, twice `mask_head.config.pool_size`. `tf_dcnv2.evaluation.paste_mask` puts one into its image.

    Train it on batches of `tf_dcnv2.data.load_records(..., masks=True)`. The mask head learns from the RoIs that hold
    an object, and from the mask of its class only.

    Args:
        backbone: as of a `FasterRCNN`, like the neck, the RPN and the box head.
        neck: see above.
        rpn: see above.
        box_head: see above.
        mask_head: a `MaskHead` for `neck.strides["roi"]` and `neck.channels["roi"]`.
        category_ids: the data set's category ids, as of a `FasterRCNN`.
        **kwargs: `short_side`, `max_side` and `name`, as of a `FasterRCNN`.

    Example:
        >>> detector = MaskRCNN.from_preset("mask_rcnn_small_dcnv2", num_classes=3)
        >>> detector(tf.zeros([1, 320, 320, 3]))["masks"].shape
        TensorShape([1, 100, 28, 28])

    References: He et al., "Mask R-CNN" (arXiv:1703.06870); Zhu et al., "Deformable ConvNets v2" (arXiv:1811.11168).
    """

    presets = preset_names("mask_rcnn")
    parts = (*FasterRCNN.parts, "mask_head")
    has_mask_head = True
    loss_terms = (*FasterRCNN.loss_terms, "mask_loss")

    def __init__(
        self,
        backbone: Backbone,
        neck: Neck,
        rpn: RPN,
        box_head: BoxHead,
        mask_head: MaskHead,
        *,
        category_ids: Sequence[int],
        **kwargs: Any,
    ):
        super().__init__(backbone, neck, rpn, box_head, category_ids=category_ids, **kwargs)
        self.mask_head = mask_head
        connect_head("mask_head", mask_head, neck, self.category_ids)

    @property
    def whole_pixel_masks(self) -> bool:
        """Whether `masks` are pasted to whole pixels: an argument of `tf_dcnv2.evaluation.paste_mask`."""
        return self.mask_head.config.whole_pixels

    def complete(self, found: Detections, levels: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        """What a call returns for the final detections, on these RoI feature levels."""
        most = found.boxes.shape[1]
        where = tf.where(tf.sequence_mask(found.count, most))  # most of the D slots of an image are empty
        logits = self.mask_head(levels, tf.gather_nd(found.boxes, where), tf.cast(where[:, 0], tf.int32))
        masks = tf.sigmoid(mask_of_class(logits, tf.gather_nd(found.class_indices, where)))
        side = 2 * self.mask_head.config.pool_size
        shape = tf.stack([tf.shape(found.boxes, tf.int64)[0], most, side, side])
        masks = tf.ensure_shape(tf.scatter_nd(where, masks, shape), [None, most, side, side])
        return {**super().complete(found, levels), "masks": masks}

    def training_outputs(
        self, inputs: Mapping[str, tf.Tensor], targets: Mapping[str, tf.Tensor], training: bool = True
    ) -> TrainingOutputs:
        """As for `FasterRCNN`; `targets` also holds `masks` `(B, M, R, R)` in frames `mask_boxes` `(B, M, 4)`.

        Those that `targets_of_batch` has completed belong to a part of a batch.
        """
        if "mask_weights" not in targets:
            targets = self.targets_of_batch(targets)
        outputs = super().training_outputs(inputs, targets, training)
        return outputs._replace(losses={**outputs.losses, "mask_loss": self._mask_loss(outputs, targets)})

    def targets_of_batch(self, targets: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Adds `mask_weights` `(B,)`, with which the mask loss is the mean over the images that have masks."""
        for name in ("masks", "mask_boxes"):
            if name not in targets:
                raise ValueError(
                    f"targets must hold {name!r} for a Mask R-CNN: load the records with masks=True. "
                    f"Received: {sorted(targets)}"
                )
        _, labels = self._objects(targets)
        known = tf.reduce_any(targets["masks"] > 0, axis=[2, 3])[:, : tf.shape(labels)[1]]
        has_masks = tf.cast(tf.reduce_any(known & (labels > 0), axis=1), tf.float32)
        share = mean_over_replicas(tf.reduce_mean(has_masks))
        return {**targets, "mask_weights": tf.math.divide_no_nan(has_masks, share)}

    def _mask_loss(self, outputs: TrainingOutputs, targets: Mapping[str, tf.Tensor]) -> tf.Tensor:
        rois = outputs.rois
        # An empty mask stands for one that is not known: its object teaches boxes and classes only.
        known = tf.gather(tf.reduce_any(targets["masks"] > 0, axis=[2, 3]), rois.objects, batch_dims=1)
        where = tf.where(rois.valid & (rois.labels > 0) & known)
        boxes, labels, objects = (tf.gather_nd(values, where) for values in (rois.boxes, rois.labels, rois.objects))
        image_indices = tf.cast(where[:, 0], tf.int32)
        logits = mask_of_class(self.mask_head(outputs.levels, boxes, image_indices), labels - 1)
        matched = tf.stack([image_indices, objects], axis=-1)
        masks, frames = (tf.gather_nd(targets[name], matched) for name in ("masks", "mask_boxes"))
        wanted = mask_targets(boxes, masks, frames, 2 * self.mask_head.config.pool_size)
        return mask_loss(logits, wanted, image_indices, targets["mask_weights"])

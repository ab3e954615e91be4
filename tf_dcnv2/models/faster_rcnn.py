"""Faster R-CNN with deformable convolutions and deformable RoI pooling (paper sec. 3.3 and 5)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_dcnv2.models.anchors import Anchors
from tf_dcnv2.models.box_head import BoxHead, Detections, detect
from tf_dcnv2.models.categories import CategoryMap
from tf_dcnv2.models.config import DetectorConfig
from tf_dcnv2.models.loss_model import LossModel
from tf_dcnv2.models.losses import box_head_losses, rpn_losses
from tf_dcnv2.models.neck import make_neck
from tf_dcnv2.models.presets import load_preset, preset_names
from tf_dcnv2.models.resnet import ResNetBackbone, preprocess
from tf_dcnv2.models.rpn import RPNHead, propose
from tf_dcnv2.models.targets import SampledRoIs, label_anchors, sample_rois
from tf_dcnv2.models.weights import WeightReport, load_weights


class TrainingOutputs(NamedTuple):
    """What one training pass computed.

    Attributes:
        losses: scalars by name.
        images: `(B, H, W, 3)` as the backbone saw them.
        rois: the sampled RoIs.
        features: their 2-fc features `(B, S, units)`.
        levels: the feature levels the RoIs are pooled from.
    """

    losses: dict[str, tf.Tensor]
    images: tf.Tensor
    rois: SampledRoIs
    features: tf.Tensor
    levels: list[tf.Tensor]


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class FasterRCNN(LossModel):
    """Two-stage object detector.

    Args:
        config: a `DetectorConfig`, or nested mappings of its fields.
        category_ids: the data set's category ids, e.g. COCO's 80 ids between 1 and 90.

    Call it on `{"images": (B, H, W, 3), "image_sizes": (B, 2)}`, or on `(images, image_sizes)`: RGB images with values
    0..255, padded at the bottom and right, and the true (height, width) of each in pixels; without sizes the images are
    taken to be unpadded. Any H and W. It returns, for at most D = `config.box_head.max_detections` detections an image,
    best first:

        boxes           float32 `(B, D, 4)` `[y1, x1, y2, x2]` in pixels of the given images, zeros when unused
        scores          float32 `(B, D)` in [0, 1]
        classes         int32 `(B, D)`, the data set's own category ids, -1 when unused
        num_detections  int32 `(B,)`

    Train it with `compile(optimizer)`, which needs no loss, and `fit` on the batches of `tf_dcnv2.data.load_records`.

    Example:
        >>> detector = FasterRCNN.from_preset("faster_rcnn_small_dcnv2", num_classes=3)
        >>> detector(tf.zeros([1, 320, 320, 3]))["boxes"].shape
        TensorShape([1, 100, 4])

    References: Ren et al., "Faster R-CNN" (arXiv:1506.01497); Zhu et al., "Deformable ConvNets v2" (arXiv:1811.11168).
    """

    presets = preset_names("faster_rcnn")
    weight_report: WeightReport | None = None
    has_mask_head = False
    loss_terms = ("rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss")

    def __init__(self, config: DetectorConfig | Mapping[str, Any], category_ids: Sequence[int], *, name=None, **kwargs):
        super().__init__(loss_names=self.loss_terms, name=name, **kwargs)
        self.config = config = config if isinstance(config, DetectorConfig) else DetectorConfig.from_dict(config)
        if self.has_mask_head != (config.mask_head is not None):
            raise ValueError(
                f"config.mask_head must be {'a MaskHeadConfig' if self.has_mask_head else 'None'} for a "
                f"{type(self).__name__}: a MaskRCNN has a mask head, a FasterRCNN none. Received: {config.mask_head}"
            )
        self._categories = CategoryMap(category_ids)
        regularizer = self.kernel_regularizer
        self.backbone = ResNetBackbone(config.backbone, kernel_regularizer=regularizer)
        neck = make_neck(config.neck, self.backbone, regularizer)
        self.neck = neck.model
        self.roi_strides = neck.roi_strides
        sizes = [config.rpn.anchor_sizes] if config.neck.kind == "c5" else [(size,) for size in config.rpn.anchor_sizes]
        self._anchors = Anchors(sizes, config.rpn.aspect_ratios, neck.rpn_strides)
        self.rpn = RPNHead(config.rpn.channels, self._anchors.per_cell, regularizer, name="rpn")
        self.rpn.build((None, None, None, neck.rpn_channels))
        self._add_heads(
            neck,
            len(self.category_ids),
            canonical_size=config.neck.canonical_size,
            kernel_regularizer=regularizer,
        )
        self.built = True

    @property
    def kernel_regularizer(self) -> keras.regularizers.Regularizer | None:
        """The weight decay of every kernel."""
        # Keras' L2 penalty is its factor times the squared norm; weight decay is defined by half of that.
        return keras.regularizers.L2(0.5 * self.config.weight_decay) if self.config.weight_decay else None

    def _add_heads(self, *arguments, **named_arguments) -> None:
        """Creates what looks at RoIs; the arguments are those of every head, after its configuration."""
        self.box_head = BoxHead(self.config.box_head, *arguments, **named_arguments, name="box_head")
        self.box_head.build()

    @classmethod
    def from_preset(
        cls,
        name: str,
        num_classes: int | None = None,
        *,
        category_ids: Sequence[int] | None = None,
        weights: str | None = None,
        **overrides: Any,
    ) -> "FasterRCNN":
        """Builds the detector of a preset.

        Args:
            name: one of the class' `presets`.
            num_classes: number of categories without background; their ids are then 1..num_classes.
            category_ids: the data set's ids, instead of `num_classes`.
            weights: None, "imagenet" (keras.applications' weights for the backbone), the path of a `.keras` or
                `.weights.h5` file of a backbone or a whole detector, or that of a PyTorch checkpoint (`.pth`, `.pt` or
                `.safetensors`), of which the backbone is taken; `detector.weight_report` then says what was loaded. See
                `tf_dcnv2.models.weights.load_weights`.
            **overrides: settings of `DetectorConfig` to change, such as `short_side=800` or
                `**{"box_head.samples": 128}`.

        Raises:
            ValueError: unknown preset or setting, or neither or both of `num_classes` and `category_ids`.
        """
        if (num_classes is None) == (category_ids is None):
            raise ValueError(
                f"Give either num_classes or category_ids. Received: {num_classes=}, category_ids={category_ids}"
            )
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes must be at least 1 (background not counted). Received: {num_classes=}")
        config = load_preset(name).replace(**overrides)
        detector = cls(config, category_ids or range(1, num_classes + 1), name=name)
        if weights is not None:
            detector.weight_report = load_weights(detector, weights)
        return detector

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The data set's category ids, in the order of the classifier's outputs."""
        return self._categories.ids

    def call(self, inputs, image_sizes=None, training=False) -> dict[str, tf.Tensor]:
        images, image_sizes = _unpack(inputs, image_sizes)
        features = self.extract(self.prepare(images, image_sizes), training=training)
        logits, deltas = self.rpn(features["rpn"])
        proposals, _ = propose(logits, deltas, self._anchors(features["rpn"]), image_sizes, self.config.rpn, False)
        class_logits, class_deltas = self.box_head(features["roi"], proposals)
        found = detect(proposals, class_logits, class_deltas, image_sizes, self.config.box_head)
        return self._outputs(found, features["roi"])

    def _outputs(self, found: Detections, levels: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        """What a call returns for the final detections, on these RoI feature levels."""
        return {
            "boxes": found.boxes,
            "scores": found.scores,
            "classes": self._categories.category_ids(found.class_indices, found.count),
            "num_detections": found.count,
        }

    def quantize(self, *arguments, **named_arguments) -> None:
        """Refused: a configuration does not say which layers are quantised, so that the file would not load.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "Detectors cannot be quantised: what is saved would not load again. Export the detector, and quantise the "
            "SavedModel, for example with TensorFlow Lite."
        )

    def prepare(self, images: tf.Tensor, image_sizes: tf.Tensor) -> tf.Tensor:
        """RGB images `(B, H, W, 3)` in 0..255 as the backbone takes them, zero beyond `image_sizes` `(B, 2)`."""
        pixels = tf.cast(tf.math.ceil(image_sizes), tf.int32)
        rows = tf.sequence_mask(pixels[:, 0], tf.shape(images)[1], tf.float32)
        columns = tf.sequence_mask(pixels[:, 1], tf.shape(images)[2], tf.float32)
        # Padding is zero for the network: set after the mean is taken off, not before.
        return preprocess(images, self.config.backbone) * rows[:, :, None, None] * columns[:, None, :, None]

    def extract(self, prepared_images: tf.Tensor, training: bool) -> dict[str, list[tf.Tensor]]:
        """Feature levels for the RPN and for the RoI head: `{"rpn": [...], "roi": [...]}`.

        Args:
            prepared_images: as `prepare` returns them.
            training: whether trainable batch normalisation uses, and learns from, the statistics of this batch.
        """
        return self.neck(self.backbone(prepared_images, training=training), training=training)

    def compute_losses(self, inputs, targets, training=True) -> dict[str, tf.Tensor]:
        return self.training_outputs(inputs, targets, training).losses

    def training_outputs(self, inputs: dict, targets: dict, training: bool = True) -> TrainingOutputs:
        """Losses of a batch, with the sampled RoIs and their features for those who build on them.

        Args:
            inputs: `{"images", "image_sizes"}`, as for a call.
            targets: `{"boxes": (B, M, 4), "classes": (B, M), "crowd": (B, M)}`: boxes in pixels of the images, the data
                set's category ids with -1 in unused slots. Crowd regions are left out.
            training: whether batch normalisation learns from the batch.
        """
        images, image_sizes = _unpack(inputs, None)
        object_boxes, object_labels = self._objects(targets)
        images = self.prepare(images, image_sizes)
        features = self.extract(images, training=training)
        logits, deltas = self.rpn(features["rpn"])
        anchors = self._anchors(features["rpn"])
        proposals, _ = propose(logits, deltas, anchors, image_sizes, self.config.rpn, True)
        anchor_targets = label_anchors(tf.concat(anchors, axis=0), object_boxes, object_labels, self.config.rpn)
        rois = sample_rois(proposals, object_boxes, object_labels, self.config.box_head)
        roi_features = self.box_head.features(features["roi"], rois.boxes)
        class_logits, class_deltas = self.box_head.predict(roi_features)
        losses = {
            **rpn_losses(tf.concat(logits, axis=1), tf.concat(deltas, axis=1), anchor_targets),
            **box_head_losses(class_logits, class_deltas, rois, self.config.box_head.box_weights),
        }
        return TrainingOutputs(losses, images, rois, roi_features, features["roi"])

    def _objects(self, targets: dict) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes `(B, M, 4)` and labels `(B, M)` of the objects, without the slots that no image of the batch uses."""
        labels = self._categories.labels(targets["classes"])
        if "crowd" in targets:
            labels = tf.where(targets["crowd"], 0, labels)
        slots = tf.range(1, tf.shape(labels)[1] + 1)
        # Matching costs anchors times slots, and most of the 100 slots of a batch are empty; one has to stay.
        used = tf.maximum(tf.reduce_max(tf.where(labels > 0, slots, 0)), 1)
        return tf.cast(targets["boxes"], tf.float32)[:, :used], labels[:, :used]

    def get_config(self) -> dict:
        return {"config": self.config.to_dict(), "category_ids": list(self.category_ids), "name": self.name}


def _unpack(inputs, image_sizes) -> tuple[tf.Tensor, tf.Tensor]:
    if isinstance(inputs, Mapping):
        inputs, image_sizes = inputs["images"], inputs.get("image_sizes", image_sizes)
    elif isinstance(inputs, (tuple, list)):
        inputs, image_sizes = inputs
    images = tf.cast(tf.convert_to_tensor(inputs), tf.float32)
    if images.shape.rank != 4 or images.shape[-1] not in (3, None):
        raise ValueError(f"images must have shape (B, H, W, 3). Received: images.shape={images.shape}")
    if image_sizes is None:
        image_sizes = tf.repeat(tf.shape(images)[None, 1:3], tf.shape(images)[0], axis=0)
    return images, tf.cast(image_sizes, tf.float32)

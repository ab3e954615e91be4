"""Faster R-CNN with deformable convolutions and deformable RoI pooling (paper sec. 3.3 and 5)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.data.images.resizing import Resizing
from tf_dcnv2.models.backbones import Backbone
from tf_dcnv2.models.categories import CategoryMap
from tf_dcnv2.models.connections import connect, connect_head
from tf_dcnv2.models.constructors import DetectorConstructors
from tf_dcnv2.models.heads import BoxHead, Detections
from tf_dcnv2.models.image_detection import Image, ImageDetection
from tf_dcnv2.models.losses import box_head_losses
from tf_dcnv2.models.necks import Neck
from tf_dcnv2.models.presets import preset_names
from tf_dcnv2.models.rpn import RPN
from tf_dcnv2.models.sampling import image_seeds
from tf_dcnv2.models.targets import SampledRoIs, sample_rois

# Images, images with their sizes, or both by name: what a call of a detector takes.
Inputs: TypeAlias = tf.Tensor | Sequence[tf.Tensor] | Mapping[str, tf.Tensor]


class TrainingOutputs(NamedTuple):
    """What one training pass computed.

    Attributes:
        losses: scalars by name.
        images: `(B, H, W, 3)` as the backbone saw them.
        rois: the sampled RoIs.
        features: their 2-fc features `(B, S, units)`.
        levels: the feature levels the RoIs are pooled from.
        seeds: int64 `(B, 2)`, what random choices for each image follow from.
    """

    losses: dict[str, tf.Tensor]
    images: tf.Tensor
    rois: SampledRoIs
    features: tf.Tensor
    levels: list[tf.Tensor]
    seeds: tf.Tensor


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class FasterRCNN(DetectorConstructors):
    """Two-stage object detector, put together from its parts.

    Each part is a Keras object of its own, which can be used, saved and replaced by itself. `from_preset` puts the
    paper's detectors together; a `DetectorConfig` others, by its method `build`.

    Args:
        backbone: from images to feature maps: a `ResNetBackbone`, a `KerasBackbone` around any Keras model, or any
            layer or model that is a `Backbone`.
        neck: from these to the levels that the RPN and the heads look at: a `C5Neck` or a `FeaturePyramid`.
        rpn: an `RPN` for `neck.strides["rpn"]` and `neck.channels["rpn"]`.
        box_head: a `BoxHead` for `neck.strides["roi"]` and `neck.channels["roi"]`.
        category_ids: the data set's category ids, one for each class of the head: COCO's 80 ids between 1 and 90.
        short_side: pixels to which `detect` and the commands resize the shorter side of an image; a call takes any
            size.
        max_side: most pixels of the longer side, for which the shorter one becomes smaller where it has to.
        resizing: whose arithmetic resizes them, see `tf_dcnv2.data.prepare_image`.

    Call it on `{"images": (B, H, W, 3), "image_sizes": (B, 2)}`, or on `(images, image_sizes)`: RGB images with values
    0..255, padded at the bottom and right, and the true (height, width) of each in pixels; without sizes the images are
    taken to be unpadded. Any H and W. It returns, for at most D = `box_head.config.max_detections` detections an image,
    best first:

        boxes           float32 `(B, D, 4)` `[y1, x1, y2, x2]` in pixels of the given images, zeros when unused
        scores          float32 `(B, D)` in [0, 1]
        classes         int32 `(B, D)`, the data set's own category ids, -1 when unused
        num_detections  int32 `(B,)`

    With `training=True` normalisations use, and learn from, the statistics of the batch. `detect` takes images of any
    size, or their files, and gives boxes in pixels of each image.

    Train it with `compile(optimizer)`, which needs no loss, and `fit` on the batches of `tf_dcnv2.data.load_records`.

    Raises:
        ValueError: two parts do not fit together; the message says which.

    Example:
        >>> detector = FasterRCNN.from_preset("faster_rcnn_small_dcnv2", num_classes=3)
        >>> detector(tf.zeros([1, 320, 320, 3]))["boxes"].shape
        TensorShape([1, 100, 4])

        With a backbone of one's own:

        >>> network = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(None, None, 3))
        >>> features = {"C4": "block_13_expand_relu", "C5": "out_relu"}
        >>> backbone = KerasBackbone(network, features, preprocessing="unit")
        >>> neck = FeaturePyramid(backbone.strides, backbone.channels, levels=(4, 5, 6))
        >>> rpn = RPN(neck.strides["rpn"], neck.channels["rpn"], anchor_sizes=(64, 128, 256))
        >>> head = BoxHead(3, neck.strides["roi"], neck.channels["roi"], pooling="v2")
        >>> detector = FasterRCNN(backbone, neck, rpn, head, category_ids=(1, 2, 3))

    References: Ren et al., "Faster R-CNN" (arXiv:1506.01497); Zhu et al., "Deformable ConvNets v2" (arXiv:1811.11168).
    """

    presets = preset_names("faster_rcnn")
    parts: tuple[str, ...] = ("backbone", "neck", "rpn", "box_head")
    loss_terms: tuple[str, ...] = ("rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss")

    def __init__(
        self,
        backbone: Backbone,
        neck: Neck,
        rpn: RPN,
        box_head: BoxHead,
        *,
        category_ids: Sequence[int],
        short_side: int = 800,
        max_side: int = 1333,
        resizing: Resizing = "tensorflow",
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(loss_names=self.loss_terms, name=name, **kwargs)
        self._categories = CategoryMap(category_ids)
        self.short_side, self.max_side, self.resizing = short_side, max_side, resizing
        self.backbone = backbone
        self.neck = neck
        self.rpn = rpn
        self.box_head = box_head
        connect(backbone, neck, rpn)
        connect_head("box_head", box_head, neck, self.category_ids)
        self._image_detection = ImageDetection(self)
        self.built = True

    @property
    def whole_pixel_masks(self) -> bool:
        """Whether `masks`, of a detector that has them, are pasted to whole pixels: see `MaskHeadConfig`."""
        return False

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The data set's category ids, in the order of the classifier's outputs."""
        return self._categories.ids

    def call(
        self, inputs: Inputs, image_sizes: tf.Tensor | None = None, training: bool = False
    ) -> dict[str, tf.Tensor]:
        """Detects objects on a batch of images; the class documents what is returned.

        Args:
            inputs: images `(B, H, W, 3)`, RGB in 0..255 and padded at the bottom and right; or
                `(images, image_sizes)`, or `{"images": ..., "image_sizes": ...}`.
            image_sizes: `(B, 2)` true (height, width) in pixels, where `inputs` has none; by default that of the
                images.
            training: whether normalisations use, and learn from, the statistics of the batch.

        Raises:
            ValueError: the images are not of the shape `(B, H, W, 3)`.
        """
        images, image_sizes = _unpack(inputs, image_sizes)
        found, levels = self.find(images, image_sizes, training)
        return self.complete(found, levels)

    def find(
        self, images: tf.Tensor, image_sizes: tf.Tensor, training: bool = False
    ) -> tuple[Detections, list[tf.Tensor]]:
        """The final detections of a batch, and the feature levels for RoIs, from which `complete` computes the rest.

        Args:
            images: `(B, H, W, 3)` float32, RGB in 0..255.
            image_sizes: `(B, 2)` float32, true height and width in pixels.
            training: whether normalisations use, and learn from, the statistics of the batch.
        """
        features = self.extract(self.prepare(images, image_sizes), training=training)
        logits, deltas = self.rpn(features["rpn"])
        anchors = self.rpn.anchors(features["rpn"], tf.shape(images)[1:3])
        proposals, _ = self.rpn.propose(logits, deltas, anchors, image_sizes, training=False)
        class_logits, class_deltas = self.box_head(features["roi"], proposals)
        return self.box_head.detections(proposals, class_logits, class_deltas, image_sizes), features["roi"]

    def detect(
        self,
        images: Image | Sequence[Image],
        *,
        short_side: int | None = None,
        max_side: int | None = None,
        upright: bool = True,
        batch_size: int = 1,
    ) -> dict[str, np.ndarray] | list[dict[str, np.ndarray]]:
        """Detects objects on images of any size; boxes are in pixels of each image.

        Args:
            images: one image or a list of them, each the path of a file, or an RGB array or tensor `(H, W, 3)` with
                values 0..255. They are resized for the network one by one.
            short_side: pixels to which the shorter side of an image is resized; by default the detector's own.
            max_side: most pixels of the longer side; by default the detector's own.
            upright: whether files are turned as their EXIF orientation says.
            batch_size: how many images of a list go through the network at once, padded to the largest of them.

        Returns:
            For one image a dictionary, for a list of images a list of them, with the D detections of an image, best
            first: `boxes` float32 `(D, 4)` `[y1, x1, y2, x2]`, `scores` float32 `(D,)`, `classes` int32 `(D,)`,
            category ids; a Mask R-CNN adds `masks` float32 `(D, S, S)`, for `tf_dcnv2.evaluation.paste_mask`.

        Raises:
            ValueError: a file does not exist or is no image, or an array is no RGB image with values 0..255.

        Example:
            >>> found = detector.detect("cells.jpg")
            >>> found["boxes"][found["scores"] > 0.5]
        """
        size = {
            "short_side": short_side or self.short_side,
            "max_side": max_side or self.max_side,
            "resizing": self.resizing,
        }
        return self._image_detection(images, upright=upright, batch_size=batch_size, **size)

    def complete(self, found: Detections, levels: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        """What a call returns for the final detections, on these RoI feature levels."""
        return {
            "boxes": found.boxes,
            "scores": found.scores,
            "classes": self._categories.category_ids(found.class_indices, found.count),
            "num_detections": found.count,
        }

    def quantize(self, *arguments: Any, **named_arguments: Any) -> None:
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
        return self.backbone.preprocess(images) * rows[:, :, None, None] * columns[:, None, :, None]

    def extract(self, prepared_images: tf.Tensor, training: bool) -> dict[str, list[tf.Tensor]]:
        """Feature levels for the RPN and for the RoI head: `{"rpn": [...], "roi": [...]}`.

        Args:
            prepared_images: as `prepare` returns them.
            training: whether trainable batch normalisation uses, and learns from, the statistics of this batch.
        """
        return self.neck(self.backbone(prepared_images, training=training), training=training)

    def compute_losses(
        self, inputs: Mapping[str, tf.Tensor], targets: Mapping[str, tf.Tensor], training: bool = True
    ) -> dict[str, tf.Tensor]:
        """The losses of `training_outputs` alone: scalars by the names in `loss_terms`."""
        return self.training_outputs(inputs, targets, training).losses

    def training_outputs(
        self, inputs: Mapping[str, tf.Tensor], targets: Mapping[str, tf.Tensor], training: bool = True
    ) -> TrainingOutputs:
        """Losses of a batch, with the sampled RoIs and their features for those who build on them.

        Args:
            inputs: `{"images", "image_sizes"}`, as for a call.
            targets: `{"boxes": (B, M, 4), "classes": (B, M), "crowd": (B, M)}`: boxes in pixels of the images, the data
                set's category ids with -1 in unused slots. Crowd regions are left out. `"seeds": (B, 2)` int64, if it
                is there, decides which anchors and RoIs are sampled; otherwise chance does.
            training: whether batch normalisation learns from the batch.
        """
        images, image_sizes = _unpack(inputs, None)
        object_boxes, object_labels = self._objects(targets)
        images = self.prepare(images, image_sizes)
        features = self.extract(images, training=training)
        logits, deltas = self.rpn(features["rpn"])
        anchors = self.rpn.anchors(features["rpn"], tf.shape(images)[1:3])
        proposals, _ = self.rpn.propose(logits, deltas, anchors, image_sizes, training=True)
        head = self.box_head.config
        seeds = image_seeds(targets, images)
        rois = sample_rois(proposals, object_boxes, object_labels, head, seeds)
        roi_features = self.box_head.features(features["roi"], rois.boxes)
        class_logits, class_deltas = self.box_head.predict(roi_features)
        losses = {
            **self.rpn.training_losses(features["rpn"], anchors, object_boxes, object_labels, seeds),
            **box_head_losses(class_logits, class_deltas, rois, head.box_weights, beta=head.box_loss_beta),
        }
        return TrainingOutputs(losses, images, rois, roi_features, features["roi"], seeds)

    def _objects(self, targets: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes `(B, M, 4)` and labels `(B, M)` of the objects, without the slots that no image of the batch uses."""
        labels = self._categories.labels(targets["classes"])
        if "crowd" in targets:
            labels = tf.where(targets["crowd"], 0, labels)
        slots = tf.range(1, tf.shape(labels)[1] + 1)
        # Matching costs anchors times slots, and most of the 100 slots of a batch are empty; one has to stay.
        used = tf.maximum(tf.reduce_max(tf.where(labels > 0, slots, 0)), 1)
        return tf.cast(targets["boxes"], tf.float32)[:, :used], labels[:, :used]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments in the form that Keras saves and `from_config` takes."""
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.parts}
        return {
            **parts,
            "category_ids": list(self.category_ids),
            "short_side": self.short_side,
            "max_side": self.max_side,
            "resizing": self.resizing,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> "FasterRCNN":
        """Makes the detector of a configuration, with new weights."""
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in cls.parts}
        return cls(**{**config, **parts})


def _unpack(inputs: Inputs, image_sizes: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
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

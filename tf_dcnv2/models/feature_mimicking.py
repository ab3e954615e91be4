"""R-CNN feature mimicking: training a detector to see RoIs as if cut out of the image (paper sec. 4.3, eq. 3)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_dcnv2.models.config import MimicConfig
from tf_dcnv2.models.faster_rcnn import FasterRCNN, Inputs, TrainingOutputs
from tf_dcnv2.models.loss_model import LossModel
from tf_dcnv2.models.losses import means_of_images
from tf_dcnv2.models.parts import take_settings
from tf_dcnv2.models.sampling import random_keys
from tf_dcnv2.ops import deform_roi_pool


class MimicOutputs(NamedTuple):
    """The R-CNN branch at work, for those who want to look inside. N is the number of RoIs in Omega, of all images.

    Attributes:
        losses: "mimic_loss" and "rcnn_class_loss", weighted.
        image_indices: int32 `(N,)`, the image each RoI is in.
        rois: `(N, 4)` in pixels.
        patches: `(N, P, P, 3)` crops as the backbone saw them.
        rcnn_features: f_RCNN, `(N, units)`.
        detector_features: f_FRCNN, `(N, units)`.
    """

    losses: dict[str, tf.Tensor]
    image_indices: tf.Tensor
    rois: tf.Tensor
    patches: tf.Tensor
    rcnn_features: tf.Tensor
    detector_features: tf.Tensor


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class FeatureMimicking(LossModel):
    """Trains `detector` in place, with an auxiliary R-CNN branch that shares its weights.

    For each image a set Omega of RoIs is cropped from the input image, resized, and sent through the detector's own
    backbone, RoI pooling and two fully connected layers. The cosine distance of the two features of a RoI,

        L_mimic = sum over b in Omega of [1 - cos(f_RCNN(b), f_FRCNN(b))],                         (eq. 3)

    and the cross-entropy of a separate classifier of f_RCNN join the detector's losses. The branch exists only here:
    calling this model, or exporting `detector`, runs the detector alone.

    On the crops batch normalisation uses its moving averages, so that the statistics of crops, unlike those of whole
    images, do not reach the detector.

    Args:
        detector: a `FasterRCNN` or `MaskRCNN`; of the latter only the classification head is mimicked.
        config: a `MimicConfig`, such as `load_preset(name).mimic`; or leave it out and give its fields by keyword.
            Without either, positive RoIs are mimicked as in the paper.

    Raises:
        ValueError: the configuration mimics no RoIs (`rois="none"`).

    Example:
        >>> model = FeatureMimicking(detector)
        >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        >>> model.fit(load_records("records/train", batch_size=2, training=True))
        >>> detector.save("detector.keras")

    To look inside, run the branch on a batch; `tf_dcnv2.models.crop` shows what it saw in the images' own colours:

        >>> mimicked = model.mimic(detector.training_outputs(inputs, targets, training=False))
        >>> pictures = crop(inputs["images"], mimicked.rois, mimicked.image_indices, size=224)
        >>> similarity = -keras.losses.cosine_similarity(mimicked.rcnn_features, mimicked.detector_features)
    """

    def __init__(
        self, detector: FasterRCNN, config: MimicConfig | None = None, *, name: str | None = None, **kwargs: Any
    ):
        if config is None:
            kwargs = {"rois": "positive", **kwargs}
        config, kwargs = take_settings(MimicConfig, config, kwargs)
        super().__init__(loss_names=(*detector.loss_names, "mimic_loss", "rcnn_class_loss"), name=name, **kwargs)
        self.config = config
        if config.rois == "none":
            raise ValueError(
                "MimicConfig.rois must be 'positive', 'negative' or 'all' for feature mimicking; with 'none' the "
                "detector is trained by itself. Received: rois='none'"
            )
        self.detector = detector
        self.classifier = keras.layers.Dense(
            len(detector.category_ids) + 1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            kernel_regularizer=detector.box_head.kernel_regularizer,
            dtype="float32",
            name="rcnn_classifier",
        )
        self.classifier.build((None, detector.box_head.config.units))
        # The RoI covers the whole patch and is pooled from the map with stride 16 (paper sec. 4.3).
        strides = detector.box_head.strides
        self._level = min(range(len(strides)), key=lambda level: abs(strides[level] - 16))
        self.built = True

    def call(
        self, inputs: Inputs, image_sizes: tf.Tensor | None = None, training: bool = False
    ) -> dict[str, tf.Tensor]:
        """The detections of `detector`, as of `FasterRCNN.call`."""
        return self.detector(inputs, image_sizes, training=training)

    def compute_losses(
        self, inputs: Mapping[str, tf.Tensor], targets: Mapping[str, tf.Tensor], training: bool = True
    ) -> dict[str, tf.Tensor]:
        """The losses of `detector`, and those of the R-CNN branch: "mimic_loss" and "rcnn_class_loss"."""
        outputs = self.detector.training_outputs(inputs, targets, training)
        return {**outputs.losses, **self.mimic(outputs).losses}

    def targets_of_batch(self, targets: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        """What `detector` adds to the targets of a batch."""
        return self.detector.targets_of_batch(targets)

    def mimic(self, outputs: TrainingOutputs) -> MimicOutputs:
        """Runs the R-CNN branch on RoIs drawn from those the detector has just been trained on.

        Args:
            outputs: of `detector.training_outputs(inputs, targets)`.

        Returns:
            The losses, and what they are made of; empty where no image has a RoI of the wanted kind.
        """
        config = self.config
        drawn, exists = self._draw(outputs)
        where = tf.where(exists)  # RoIs that do not exist cost no crop
        image_indices = tf.cast(where[:, 0], tf.int32)

        rois, labels, detector_features = (
            tf.gather_nd(tf.gather(values, drawn, batch_dims=1), where)
            for values in (outputs.rois.boxes, outputs.rois.labels, outputs.features)
        )
        patches = crop(outputs.images, rois, image_indices, config.patch_size)
        rcnn_features = self._rcnn_features(patches)
        target = tf.stop_gradient(rcnn_features) if config.stop_gradient else rcnn_features
        distance = 1.0 - _cosine_similarity(target, detector_features)
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=self.classifier(rcnn_features)
        )
        images = tf.shape(outputs.images)[0]
        if config.reduction == "sum":
            mimic_loss = tf.reduce_sum(distance) / tf.cast(images, tf.float32)
        else:
            mimic_loss = tf.reduce_mean(means_of_images(distance, image_indices, images))
        class_loss = tf.reduce_mean(means_of_images(cross_entropy, image_indices, images))
        losses = {
            "mimic_loss": config.mimic_weight * mimic_loss,
            "rcnn_class_loss": config.classification_weight * class_loss,
        }
        return MimicOutputs(losses, image_indices, rois, patches, rcnn_features, detector_features)

    def _draw(self, outputs: TrainingOutputs) -> tuple[tf.Tensor, tf.Tensor]:
        """Indices `(B, n)` of random RoIs of the wanted kind, and which of them exist."""
        is_object = outputs.rois.labels > 0
        wanted = (
            outputs.rois.valid
            & {
                "positive": is_object,
                "negative": ~is_object,
                "all": tf.ones_like(is_object),
            }[self.config.rois]
        )
        order = tf.where(wanted, random_keys(outputs.seeds, tf.shape(wanted)[1], "mimicking"), -1.0)
        drawn = tf.math.top_k(order, tf.minimum(self.config.rois_per_image, tf.shape(order)[1]))
        return drawn.indices, drawn.values >= 0.0

    def _rcnn_features(self, patches: tf.Tensor) -> tf.Tensor:
        count = tf.shape(patches)[0]
        # TensorFlow's convolutions fail on empty batches: a blank patch stands in, and is dropped at the end.
        patches = tf.pad(patches, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        levels = self.detector.extract(patches, training=False)["roi"]
        side = float(self.config.patch_size)
        boxes = tf.repeat(tf.constant([[[0.0, 0.0, side, side]]]), tf.shape(patches)[0], axis=0)
        level = tf.fill(tf.shape(boxes)[:2], self._level)
        return self.detector.box_head.features(levels, boxes, level)[:count, 0]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments in the form that Keras saves and `from_config` takes."""
        return {
            "detector": keras.saving.serialize_keras_object(self.detector),
            **self.config.to_dict(),
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> "FeatureMimicking":
        """Makes the model of a configuration, and its detector, with new weights."""
        return cls(**{**config, "detector": keras.saving.deserialize_keras_object(config["detector"])})


def crop(images: tf.Tensor, boxes: tf.Tensor, image_indices: tf.Tensor, size: int) -> tf.Tensor:
    """Cuts boxes out of images and resizes them bilinearly to `size` x `size` pixels.

    Args:
        images: `(B, H, W, C)`.
        boxes: `(N, 4)` in pixels, whose edges become the edges of the crop.
        image_indices: int32 `(N,)`, the image of each box.
        size: rows and columns of a crop in pixels.

    Returns:
        `(N, size, size, C)`.
    """
    # RoIAlign with one sample a bin is a bilinear resize with pixel centres half a pixel inside the edges.
    return deform_roi_pool(images, boxes, image_indices, output_size=size, spatial_scale=1.0, sampling_ratio=1)


def _cosine_similarity(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Cosine similarity along the last axis, computed in float32."""
    a, b = tf.cast(a, tf.float32), tf.cast(b, tf.float32)
    return tf.reduce_sum(tf.math.l2_normalize(a, -1) * tf.math.l2_normalize(b, -1), axis=-1)

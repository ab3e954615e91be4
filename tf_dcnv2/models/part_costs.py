"""What the parts of a detector cost for one image at inference. Sizes are (height, width)."""

from concurrent.futures import ThreadPoolExecutor

import keras
import tensorflow as tf

from tf_dcnv2.models.config import DetectorConfig
from tf_dcnv2.models.cost import Cost, cost_and_outputs, model_cost
from tf_dcnv2.models.faster_rcnn import FasterRCNN


def detector_cost(
    config: DetectorConfig, num_classes: int = 80, image_size: tuple[int, int] | None = None
) -> dict[str, Cost]:
    """The cost of each part of the detector that a configuration describes, without making its weights.

    Args:
        config: of the detector.
        num_classes: without background; COCO's by default.
        image_size: see `parts_cost`.

    Returns:
        As `parts_cost`.

    Example:
        >>> detector_cost(load_preset("faster_rcnn_r50_dcnv2"))["neck"]
        Cost(parameters=524544, multiply_adds=2774532096)
    """

    def count() -> dict[str, Cost]:
        with keras.StatelessScope(initialize_variables=False):
            return parts_cost(config.build(range(1, num_classes + 1)), image_size)

    # Keras gives such variables values when their thread leaves its next scope: this thread has no other.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(count).result()


def parts_cost(detector: FasterRCNN, image_size: tuple[int, int] | None = None) -> dict[str, Cost]:
    """The cost of each part of a detector for one image; decoding boxes and non-maximum suppression are left out.

    The box head runs on as many RoIs as there are proposals, the mask head on as many as there are detections at most.

    Args:
        detector: a `FasterRCNN` or `MaskRCNN`, of any parts.
        image_size: (height, width) in pixels; by default an image of 4:3, as most of COCO's are, at the detector's
            `short_side` and `max_side`.

    Returns:
        "backbone", "neck", "rpn", "box_head" and, of a Mask R-CNN, "mask_head".
    """
    rois, masks = detector.rpn.config.proposals[1], detector.box_head.config.max_detections
    images = tf.TensorSpec([1, *(image_size or default_image_size(detector)), 3])
    parts = {}
    parts["backbone"], features = cost_and_outputs(detector.backbone, images)
    parts["neck"], levels = cost_and_outputs(detector.neck, features)
    parts["rpn"] = model_cost(detector.rpn, levels["rpn"])
    parts["box_head"] = model_cost(detector.box_head, levels["roi"], tf.TensorSpec([1, rois, 4]))
    if detector.has_mask_head:
        image_indices = tf.TensorSpec([masks], tf.int32)
        parts["mask_head"] = model_cost(detector.mask_head, levels["roi"], tf.TensorSpec([masks, 4]), image_indices)
    return parts


def total_cost(config: DetectorConfig, num_classes: int = 80, image_size: tuple[int, int] | None = None) -> Cost:
    """The cost of the whole detector; see `detector_cost`."""
    return sum(detector_cost(config, num_classes, image_size).values(), Cost())


def default_image_size(config: DetectorConfig | FasterRCNN) -> tuple[int, int]:
    """(height, width) of a landscape image of 4:3 at the image size that a detector is meant for."""
    return config.short_side, min(round(config.short_side * 4 / 3), config.max_side)

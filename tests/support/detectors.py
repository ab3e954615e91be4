"""A detector small enough to train in seconds, and batches for it."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.models import DetectorConfig, FasterRCNN, MimicConfig

CATEGORY_IDS = (3, 7, 90)
MIMIC = MimicConfig(rois="positive", rois_per_image=3, patch_size=64)
MASK_HEAD = {"pooling": "v2", "pool_size": 4, "pool_branch_units": 16, "convolutions": 1, "channels": 8}


def tiny_config(neck: str = "fpn", dcn: str = "v2", **overrides) -> DetectorConfig:
    config = DetectorConfig.from_dict(
        {
            "backbone": {
                "depths": [1, 1, 1, 1],
                "widths": [4, 4, 8, 8],
                "stem_width": 8,
                "dcn": dcn,
                "dcn_stages": [] if dcn == "none" else [4, 5],
                "norm": "batch",
                "norm_momentum": 0.9,
                "dilated_c5": neck == "c5",
                "preprocessing": "unit",
            },
            "neck": {"kind": neck, "channels": 16, "levels": [3, 4, 5]},
            "rpn": {
                "anchor_sizes": [16, 32, 64],
                "channels": 16,
                "samples": 64,
                "pre_nms": [100, 100],
                "proposals": [40, 40],
            },
            "box_head": {"pooling": dcn, "pool_size": 3, "pool_branch_units": 16, "units": 32, "samples": 24},
            "mimic": MIMIC.to_dict(),
        }
    )
    return config.replace(**overrides)


def make_batch(height: int = 96, width: int = 128, seed: int = 0) -> tuple[dict, dict]:
    """Two images with bright squares: the first has two objects and a crowd, the second none."""
    random = np.random.default_rng(seed)
    images = random.uniform(0, 80, [2, height, width, 3]).astype("float32")
    boxes = np.zeros([2, 4, 4], "float32")
    boxes[0, :3] = [[10, 12, 42, 44], [40, 60, 88, 108], [0, 100, 30, 128]]
    classes = np.full([2, 4], -1, "int32")
    classes[0, :3] = [CATEGORY_IDS[0], CATEGORY_IDS[2], CATEGORY_IDS[1]]
    crowd = np.zeros([2, 4], bool)
    crowd[0, 2] = True
    for (y1, x1, y2, x2), channel in zip(boxes[0, :2].astype(int), (0, 2), strict=True):
        images[0, y1:y2, x1:x2, channel] = 250
    inputs = {"images": tf.constant(images), "image_sizes": tf.constant([[height, width], [height - 6.0, width - 9.0]])}
    targets = {"boxes": tf.constant(boxes), "classes": tf.constant(classes), "crowd": tf.constant(crowd)}
    return inputs, targets


def make_mask_batch(height: int = 96, width: int = 128) -> tuple[dict, dict]:
    """The same with masks: of each object the left half of its box."""
    inputs, targets = make_batch(height, width)
    masks = np.zeros([2, 4, 16, 16], "uint8")
    masks[..., :8] = 1
    return inputs, {**targets, "masks": tf.constant(masks), "mask_boxes": targets["boxes"]}


def assert_detects_the_same_when_loaded(detector: FasterRCNN, folder: Path, rng: np.random.Generator) -> None:
    """Saves a detector, loads it, and compares what both find on one image."""
    image = rng.integers(0, 256, [96, 128, 3], dtype=np.uint8)
    found = detector.detect(image)
    detector.save(folder / "detector.keras")
    again = keras.saving.load_model(folder / "detector.keras").detect(image)
    for name, value in found.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-4, atol=1e-4)

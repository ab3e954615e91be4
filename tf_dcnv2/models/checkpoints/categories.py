"""Which categories the classes of a checkpoint stand for."""

from collections.abc import Mapping, Sequence
from typing import Any

# COCO's 80 categories: id and name.
COCO_CATEGORIES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip
_COCO_SLOTS = 90  # torchvision has a class for each number up to the last id, ten of them without a category


def categories_of(
    class_count: int, meta: Mapping[str, Any], category_ids: Sequence[int] | None = None
) -> dict[int, str]:
    """Category id -> name of each class, in their order.

    80 classes are COCO's categories, 90 the numbers up to COCO's last id, unless names in `meta` say otherwise; others
    count from 1.

    Args:
        class_count: without background.
        meta: of the checkpoint; that of mmdetection 2, and mmengine's `dataset_meta`, have names.
        category_ids: one for each class, instead.

    Raises:
        ValueError: there are more or fewer ids than classes.
    """
    described = meta.get("dataset_meta")
    described = described if isinstance(described, Mapping) else meta
    names = described.get("classes") or described.get("CLASSES")
    names = list(names) if isinstance(names, list) and len(names) == class_count else None
    if category_ids is not None:
        if len(category_ids) != class_count:
            raise ValueError(
                f"category_ids must be one for each of the {class_count} classes. Received: {len(category_ids)} ids"
            )
        ids = list(category_ids)
    elif class_count == len(COCO_CATEGORIES) and names in (None, list(COCO_CATEGORIES.values())):
        return dict(COCO_CATEGORIES)
    else:
        ids = list(range(1, class_count + 1))
        if names is None and class_count == _COCO_SLOTS:
            return {number: COCO_CATEGORIES.get(number, f"unused {number}") for number in ids}
    return dict(zip(ids, names or map(str, ids), strict=True))

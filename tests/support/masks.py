"""Masks as pixels, for comparing."""

import numpy as np

from tf_dcnv2.data.coco.segmentations import segmentation_rle


def segmentation_mask(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """Rasterises a COCO segmentation: `(height, width)` uint8, 1 on the object and 0 elsewhere."""
    from pycocotools import mask as coco_mask

    return coco_mask.decode(segmentation_rle(segmentation, height, width))


def box_mask(box: list[float], height: int, width: int) -> np.ndarray:
    """The pixels whose centres lie in a box `[y1, x1, y2, x2]`: `(height, width)` uint8."""
    rows = np.arange(height)[:, None] + 0.5
    columns = np.arange(width) + 0.5
    inside = (rows >= box[0]) & (rows < box[2]) & (columns >= box[1]) & (columns < box[3])
    return inside.astype(np.uint8)

"""COCO's run-length codes of segmentations and masks."""

import numpy as np

from tf_dcnv2.data.segmentations import check_for_image, parse_segmentation


def segmentation_rle(segmentation: list | dict, height: int, width: int) -> dict:
    """COCO's compressed run-length code of a COCO segmentation.

    Args:
        segmentation: a list of polygons `[x1, y1, x2, y2, …]` in pixels, or a run-length code
            `{"size": [height, width], "counts": list or string}`.
        height: image height in pixels.
        width: image width in pixels.

    Raises:
        ValueError: the segmentation is malformed or made for another image size.
    """
    from pycocotools import mask as coco_mask

    parsed = parse_segmentation(segmentation)
    if parsed is None:
        raise ValueError(f"malformed segmentation {segmentation!r}")
    code = parsed.code
    check_for_image(code, height, width)
    if isinstance(code, list):
        return coco_mask.merge(coco_mask.frPyObjects(code, height, width))
    return coco_mask.frPyObjects(code, height, width) if isinstance(code["counts"], list) else code


def compressed_rle(mask: np.ndarray) -> dict:
    """COCO's compressed run-length code of a binary `(H, W)` mask, as JSON takes it."""
    from pycocotools import mask as coco_mask

    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": code["counts"].decode("ascii")}


def uncompressed_rle(mask: np.ndarray) -> dict:
    """COCO's uncompressed run-length code of a binary `(H, W)` mask (column-major, zeros first)."""
    pixels = np.asarray(mask, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [pixels.size]]))
    counts = runs.tolist() if not pixels[0] else [0, *runs.tolist()]
    return {"size": list(mask.shape), "counts": counts}

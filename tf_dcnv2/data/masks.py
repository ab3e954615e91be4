"""COCO segmentations (polygons, run-length codes) as pixels."""

import numpy as np


def segmentation_mask(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """Rasterises a COCO segmentation: `(height, width)` uint8, 1 on the object and 0 elsewhere.

    Arguments and errors are those of `segmentation_rle`.
    """
    from pycocotools import mask as coco_mask

    return coco_mask.decode(segmentation_rle(segmentation, height, width))


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

    if isinstance(segmentation, dict):
        if list(segmentation.get("size", [])) != [height, width]:
            raise ValueError(f"segmentation of size {segmentation.get('size')} on a {height}x{width} image")
        counts = segmentation.get("counts")
        if isinstance(counts, list):
            _check_counts(counts, height * width)
            return coco_mask.frPyObjects(segmentation, height, width)
        if isinstance(counts, (str, bytes)):
            return segmentation
        raise ValueError("run-length segmentation without counts")
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"malformed segmentation {segmentation!r}")
    for polygon in segmentation:
        _check_polygon(polygon)
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))


def box_mask(box: list[float], height: int, width: int) -> np.ndarray:
    """The pixels whose centres lie in a box `[y1, x1, y2, x2]`: `(height, width)` uint8."""
    rows = np.arange(height)[:, None] + 0.5
    columns = np.arange(width) + 0.5
    inside = (rows >= box[0]) & (rows < box[2]) & (columns >= box[1]) & (columns < box[3])
    return inside.astype(np.uint8)


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


def _check_polygon(polygon) -> None:
    numbers = isinstance(polygon, list) and all(isinstance(value, (int, float)) for value in polygon)
    if not numbers or len(polygon) < 6 or len(polygon) % 2 or not np.isfinite(polygon).all():
        raise ValueError(f"malformed polygon {str(polygon)[:60]}")


def _check_counts(counts: list, num_pixels: int) -> None:
    if not all(isinstance(count, int) and count >= 0 for count in counts) or sum(counts) != num_pixels:
        raise ValueError(f"run lengths do not add up to the image's {num_pixels} pixels")

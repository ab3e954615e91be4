"""Masks of objects: COCO's run-length codes of binary masks, and masks in the frame of a box put into an image."""

import numpy as np


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


def box_rle(box: list[float], height: int, width: int) -> dict:
    """The run-length code of the pixels whose centres lie in a box `[y1, x1, y2, x2]`."""
    top, left, bottom, right = (
        int(np.clip(np.ceil(side - 0.5), 0, limit))
        for side, limit in zip(box, (height, width, height, width), strict=True)
    )
    rows, columns = bottom - top, right - left
    if rows <= 0 or columns <= 0:
        return empty_rle(height, width)
    last = height * (width - right) + height - bottom
    return {
        "size": [height, width],
        "counts": [left * height + top, *[rows, height - rows] * (columns - 1), rows, last],
    }


def empty_rle(height: int, width: int) -> dict:
    """The run-length code of no pixel at all: what stands for a mask that is not known."""
    return {"size": [height, width], "counts": [height * width]}


def paste_mask(
    mask: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float = 0.5, *, whole_pixels: bool = False
) -> np.ndarray:
    """Enlarges a mask to its box and puts it into an image.

    The mask's values are those at the centres of equal cells of the box. Between them it is bilinear, beyond them it
    falls to zero within one cell, so that a mask full of ones ends at the border of its box.

    Args:
        mask: `(R, R)` probabilities or zeros and ones.
        box: `[y1, x1, y2, x2]` in pixels of the image; may reach past its border.
        height: of the image in pixels.
        width: of the image in pixels.
        threshold: value from which on a pixel belongs to the object.
        whole_pixels: whether the mask, with a cell of zeros around it, is enlarged to whole pixels, as in torchvision,
            which moves its outline by up to half a pixel.

    Returns:
        `(height, width)` uint8, 1 on the object and 0 elsewhere.

    Example:
        >>> detections = detector(inputs)
        >>> paste_mask(detections["masks"][0, 0].numpy(), detections["boxes"][0, 0].numpy(), 480, 640).sum()
        11730
    """
    if whole_pixels:
        mask, box = np.pad(mask, 1), _whole_pixels(box, mask.shape[0])
    pasted = np.zeros((height, width), np.uint8)
    rows, row_weights = _interpolation(box[0], box[2], height, mask.shape[0])
    columns, column_weights = _interpolation(box[1], box[3], width, mask.shape[1])
    pasted[rows, columns] = row_weights @ np.asarray(mask, np.float64) @ column_weights.T >= threshold
    return pasted


def _whole_pixels(box: np.ndarray, cells: int) -> np.ndarray:
    """The frame of a mask of `cells` cells and one more on each side, from its first to the end of its last pixel."""
    low, high = np.asarray(box[:2], np.float64), np.asarray(box[2:], np.float64)
    centre, half = (low + high) / 2, (high - low) / 2 * (cells + 2) / cells
    return np.concatenate([np.trunc(centre - half), np.trunc(centre + half) + 1])


def _interpolation(start: float, end: float, side: int, cells: int) -> tuple[slice, np.ndarray]:
    """The pixels of one axis that a box touches, and how much each takes of each cell: `(pixels, cells)`."""
    first = int(np.clip(np.floor(start), 0, side))
    last = int(np.clip(np.ceil(end), first, side))
    centres = (np.arange(first, last) + 0.5 - start) / max(end - start, 1e-9) * cells - 0.5
    return slice(first, last), np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(cells)))

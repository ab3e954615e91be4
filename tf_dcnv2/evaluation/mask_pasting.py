"""From a mask in the frame of its box to the pixels of the image."""

import numpy as np


def paste_mask(mask: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float = 0.5) -> np.ndarray:
    """Enlarges a mask to its box and puts it into an image.

    The mask's values are those at the centres of equal cells of the box. Between them it is bilinear, beyond them it
    falls to zero within one cell, so that a mask full of ones ends at the border of its box.

    Args:
        mask: `(R, R)` probabilities or zeros and ones.
        box: `[y1, x1, y2, x2]` in pixels of the image; may reach past its border.
        height, width: size of the image in pixels.
        threshold: value from which on a pixel belongs to the object.

    Returns:
        `(height, width)` uint8, 1 on the object and 0 elsewhere.

    Example:
        >>> detections = detector(inputs)
        >>> paste_mask(detections["masks"][0, 0].numpy(), detections["boxes"][0, 0].numpy(), 480, 640).sum()
        11730
    """
    pasted = np.zeros((height, width), np.uint8)
    rows, row_weights = _interpolation(box[0], box[2], height, mask.shape[0])
    columns, column_weights = _interpolation(box[1], box[3], width, mask.shape[1])
    pasted[rows, columns] = row_weights @ np.asarray(mask, np.float64) @ column_weights.T >= threshold
    return pasted


def _interpolation(start: float, end: float, side: int, cells: int) -> tuple[slice, np.ndarray]:
    """The pixels of one axis that a box touches, and how much each takes of each cell: `(pixels, cells)`."""
    first = int(np.clip(np.floor(start), 0, side))
    last = int(np.clip(np.ceil(end), first, side))
    centres = (np.arange(first, last) + 0.5 - start) / max(end - start, 1e-9) * cells - 0.5
    return slice(first, last), np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(cells)))

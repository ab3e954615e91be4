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
    pasted = np.zeros((height, width), np.uint8)
    inside, rows, columns = _in_its_box(mask, box, height, width, threshold, whole_pixels)
    pasted[rows, columns] = inside.T
    return pasted


def pasted_rle(
    mask: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float = 0.5, *, whole_pixels: bool = False
) -> dict:
    """COCO's compressed run-length code of what `paste_mask` gives for the same arguments.

    Only the pixels of the box are looked at, which most often are few of the image's.
    """
    from pycocotools import mask as coco_mask

    inside, rows, columns = _in_its_box(mask, box, height, width, threshold, whole_pixels)
    # Each column gets a zero after its last pixel, so that no run goes on into the next.
    bordered = np.zeros((inside.shape[0], inside.shape[1] + 1), bool)
    bordered[:, :-1] = inside
    flat = bordered.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[:1].any():
        changes = np.concatenate([[0], changes])
    column, row = np.divmod(changes, inside.shape[1] + 1)
    ends = (column + columns.start) * height + rows.start + row
    if inside.shape[1] == height:  # there a run may go on in the next column after all
        joined = np.flatnonzero(ends[1:-1:2] == ends[2::2])
        ends = np.delete(ends, np.concatenate([2 * joined + 1, 2 * joined + 2]))
    ends = ends[: len(ends) - (len(ends) > 0 and ends[-1] == height * width)]  # a code does not end in no pixel
    counts = np.diff(np.concatenate([[0], ends, [height * width]]))
    code = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": code["counts"].decode("ascii")}


def _in_its_box(
    mask: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float, whole_pixels: bool
) -> tuple[np.ndarray, slice, slice]:
    """Which pixels of a mask's box belong to the object, and the rows and columns of the image that the box touches.

    The pixels are `(columns, rows)`, in the order of run-length codes.
    """
    if whole_pixels:
        mask, box = np.pad(mask, 1), _whole_pixels(box, mask.shape[0])
    rows, above, below = _interpolation(box[0], box[2], height, mask.shape[0])
    columns, left, right = _interpolation(box[1], box[3], width, mask.shape[1])
    # Two rows of cells and then two columns, not products with matrices of mostly zeros; beyond the cells is nothing.
    bordered = np.zeros((mask.shape[1] + 2, mask.shape[0] + 2))
    bordered[1:-1, 1:-1] = np.transpose(mask)
    tall = bordered[:, above[0]] * above[1] + bordered[:, below[0]] * below[1]
    values = tall[left[0]] * left[1][:, None]
    values += tall[right[0]] * right[1][:, None]
    return values >= threshold, rows, columns


def _whole_pixels(box: np.ndarray, cells: int) -> np.ndarray:
    """The frame of a mask of `cells` cells and one more on each side, from its first to the end of its last pixel."""
    low, high = np.asarray(box[:2], np.float64), np.asarray(box[2:], np.float64)
    centre, half = (low + high) / 2, (high - low) / 2 * (cells + 2) / cells
    return np.concatenate([np.trunc(centre - half), np.trunc(centre + half) + 1])


_Weights = tuple[np.ndarray, np.ndarray]


def _interpolation(start: float, end: float, side: int, cells: int) -> tuple[slice, _Weights, _Weights]:
    """The pixels of one axis that a box touches, and of the cells before and after each its index and its weight.

    Indices count from the border of one cell around the mask.
    """
    first = int(min(max(np.floor(start), 0), side))
    last = int(min(max(np.ceil(end), first), side))
    centres = (np.arange(first, last) + 0.5 - start) / max(end - start, 1e-9) * cells - 0.5
    before = np.minimum(np.maximum(np.floor(centres), -1), cells).astype(np.int64)
    after = np.minimum(before + 1, cells)
    weights = (np.maximum(0.0, 1.0 - np.abs(centres - cell)) for cell in (before, after))
    return slice(first, last), (before + 1, next(weights)), (after + 1, next(weights))

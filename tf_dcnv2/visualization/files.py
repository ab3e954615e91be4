"""Pictures as image files: one at a time, and several in a grid."""

import io
import math
import os
from collections.abc import Sequence

import numpy as np

from tf_dcnv2._core.atomic_files import write_atomically

_GRID_GAP_PX = 8


def save_image(image: np.ndarray, path: str | os.PathLike, *, comment: str | None = None) -> None:
    """Writes an `(H, W, 3)` uint8 image, whole or not at all. Makes the folder.

    Args:
        image: the pixels.
        path: the file; its extension decides the format.
        comment: a text to keep in a JPEG file beside the pixels.
    """
    from PIL import Image

    extension = os.path.splitext(os.fspath(path))[1].lower()
    file_format = Image.registered_extensions().get(extension)
    if file_format is None:
        raise ValueError(f"The extension of {os.fspath(path)!r} is of no image format: use .jpg or .png.")
    buffer = io.BytesIO()
    options = {} if comment is None else {"comment": comment}
    Image.fromarray(np.asarray(image, np.uint8)).save(buffer, format=file_format, **options)
    write_atomically(path, buffer.getvalue())


def save_grid(images: Sequence[np.ndarray], path: str | os.PathLike, *, columns: int | None = None) -> None:
    """Writes several images as one picture, row by row on white.

    Args:
        images: `(H, W, 3)` uint8 each; sizes may differ.
        path: file to write; the extension decides the format.
        columns: images per row; by default the grid is about square.

    Raises:
        ValueError: there are no images.
    """
    if not images:
        raise ValueError("images is empty: there is nothing to save.")
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    row_heights = [max(image.shape[0] for image in row) for row in rows]
    column_width = max(image.shape[1] for image in images)
    gap = _GRID_GAP_PX
    grid_shape = (sum(row_heights) + gap * (len(rows) + 1), (column_width + gap) * columns + gap, 3)
    grid = np.full(grid_shape, 255, np.uint8)
    top = gap
    for row, row_height in zip(rows, row_heights, strict=True):
        for column, image in enumerate(row):
            left = gap + column * (column_width + gap)
            grid[top : top + image.shape[0], left : left + image.shape[1]] = image
        top += row_height + gap
    save_image(grid, path)

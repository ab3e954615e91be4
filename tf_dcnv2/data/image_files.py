"""Reads image files of any common kind as RGB, the way the input pipeline will see them."""

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from PIL import Image

_JPEG_QUALITY = 95


class UnreadableImage(ValueError):
    """An image file is missing, damaged, or not the image its annotations describe."""


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An RGB JPEG that TensorFlow is known to decode, and its size in pixels."""

    jpeg: bytes
    height: int
    width: int


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image file as RGB, upright (EXIF orientation applied).

    Args:
        path: JPEG, PNG, TIFF, … of any colour mode; 16-bit greyscale is scaled to 8 bits.

    Returns:
        `(H, W, 3)` uint8.

    Raises:
        ValueError: the file is missing or cannot be decoded; the message names it.
    """
    from PIL import ImageOps

    with _open(path) as image:
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))


def read_as_jpeg(path: str | os.PathLike, expected_size: tuple[int, int] | None = None) -> EncodedImage:
    """Reads an image file as RGB JPEG bytes, verified by decoding.

    Bytes of a plain RGB JPEG pass through unchanged; anything else is converted and encoded at quality 95.
    TensorFlow ignores EXIF orientation while annotation tools differ, so `expected_size` decides: a rotation tag is
    applied unless only the unrotated image has that size.

    Args:
        path: the image file.
        expected_size: `(height, width)` according to the annotations, or None to accept any.

    Raises:
        UnreadableImage: the file is missing, damaged, or has another size; the message names it.
    """
    with _open(path) as image:
        if image.format == "JPEG" and image.mode == "RGB" and not _needs_rotation(image, expected_size):
            encoded = EncodedImage(_verified_bytes(path), image.height, image.width)
        else:
            encoded = _reencode(image, expected_size)
    size = (encoded.height, encoded.width)
    if expected_size is not None and size != tuple(expected_size):
        raise UnreadableImage(
            f"{os.fspath(path)} is {size[1]}x{size[0]} pixels, but the annotations say "
            f"{expected_size[1]}x{expected_size[0]}"
        )
    return encoded


@contextlib.contextmanager
def _open(path: str | os.PathLike) -> Iterator["Image.Image"]:
    """Opens a Pillow image; every failure, also while decoding it later, becomes an `UnreadableImage` with the path."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except UnreadableImage:
        raise
    except FileNotFoundError:
        raise UnreadableImage(f"{os.fspath(path)} does not exist") from None
    # Pillow reports damage to PNG files as SyntaxError.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{os.fspath(path)} cannot be decoded: {error}") from error


def _verified_bytes(path: str | os.PathLike) -> bytes:
    with open(path, "rb") as file:
        content = file.read()
    try:
        tf.io.decode_jpeg(content, channels=3)
    except tf.errors.InvalidArgumentError as error:
        raise UnreadableImage(f"{os.fspath(path)} is not a complete JPEG: {_first_line(error.message)}") from error
    return content


def _needs_rotation(image, expected_size: tuple[int, int] | None) -> bool:
    orientation = image.getexif().get(0x0112, 1)
    if orientation not in range(2, 9):
        return False
    stored = (image.height, image.width)
    upright = stored[::-1] if orientation >= 5 else stored
    return expected_size is None or tuple(expected_size) == upright or tuple(expected_size) != stored


def _reencode(image, expected_size: tuple[int, int] | None) -> EncodedImage:
    from PIL import ImageOps

    if _needs_rotation(image, expected_size):
        image = ImageOps.exif_transpose(image)
    image = _to_rgb(image)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return EncodedImage(buffer.getvalue(), image.height, image.width)


def _to_rgb(image):
    """Converts any Pillow image to mode RGB; transparency is dropped."""
    from PIL import Image

    if image.mode.startswith("I"):
        # Pillow would clip 16-bit greyscale at 255.
        values = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        image = Image.fromarray((values >> 8).astype(np.uint8))
    return image.convert("RGB")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "unknown error"

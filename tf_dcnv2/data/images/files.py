"""Reads image files of any common kind as RGB, the way the input pipeline will see them."""

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np
import tensorflow as tf

from tf_dcnv2.data.images.pixels import to_rgb, whiten

if TYPE_CHECKING:
    from PIL import Image

_JPEG_QUALITY = 95
LARGEST_JPEG_PX = 65_500  # sides that libjpeg writes
_ORIENTATION_TAG = 0x0112
_SCALING = "tf_dcnv2.scaling"  # in a Pillow image's `info`: what was done to its values when it was opened
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class UnreadableImage(ValueError):
    """An image file is missing, damaged, or not the image its annotations describe."""


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An RGB JPEG that TensorFlow is known to decode.

    Attributes:
        jpeg: the file's content.
        height, width: size in pixels.
        orientation: "upright" or "stored" where the file has an EXIF orientation that was applied or not, else "".
        note: what was done to the pixels in words; empty if nothing that changes how they look.
    """

    jpeg: bytes
    height: int
    width: int
    orientation: str = ""
    note: str = ""


def read_image(path: str | os.PathLike, *, upright: bool = True) -> np.ndarray:
    """Reads an image file as RGB.

    Args:
        path: JPEG, PNG, TIFF, … of any colour mode. Samples of more than 8 bits and floats are scaled to 8 bits,
            entirely transparent pixels become white. Of several frames the first is read.
        upright: apply the EXIF orientation, as viewers do. False gives the frame as it is stored.

    Returns:
        `(H, W, 3)` uint8.

    Raises:
        ValueError: the file is missing or cannot be decoded; the message names it.
    """
    with _open(path) as image:
        return np.asarray(_decode(path, image, upright)[0])


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
        tagged = _orientation(image) != 1
        upright = tagged and _is_upright(image, expected_size)
        orientation = ("upright" if upright else "stored") if tagged else ""
        if image.format == "JPEG" and image.mode == "RGB" and not upright:
            encoded = EncodedImage(_verified_bytes(path), image.height, image.width, orientation)
        else:
            pixels, note = _decode(path, image, upright)
            if max(pixels.size) > LARGEST_JPEG_PX:
                raise UnreadableImage(
                    f"{os.fspath(path)} is {pixels.width}x{pixels.height} pixels, but JPEG, which records hold, has "
                    f"sides of at most {LARGEST_JPEG_PX}"
                )
            buffer = io.BytesIO()
            pixels.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
            encoded = EncodedImage(buffer.getvalue(), pixels.height, pixels.width, orientation, note)
    size = (encoded.height, encoded.width)
    if expected_size is not None and size != tuple(expected_size):
        raise UnreadableImage(
            f"{os.fspath(path)} is {size[1]}x{size[0]} pixels, but the annotations say "
            f"{expected_size[1]}x{expected_size[0]}"
        )
    return encoded


def upright_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """Height and width of an image file as a viewer shows it, from its header; None if that cannot be read."""
    with contextlib.suppress(UnreadableImage), _open(path) as image:
        return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)
    return None


@contextlib.contextmanager
def _open(path: str | os.PathLike) -> Iterator["Image.Image"]:
    """Opens a Pillow image; every failure, also while decoding it later, becomes an `UnreadableImage` with the path."""
    from PIL import Image

    name = os.fspath(path)
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for without end
        raise UnreadableImage(f"{name} is no regular file")
    try:
        with _open_any(path) as image:
            yield image
    except UnreadableImage:
        raise
    except FileNotFoundError:
        raise UnreadableImage(f"{name} does not exist") from None
    except Image.UnidentifiedImageError:
        raise UnreadableImage(f"{name} cannot be decoded: {_what_it_is(path)}") from None
    # Decoders report damage by all kinds of errors, Pillow's of PNG files for one by SyntaxError.
    except (Exception, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{name} cannot be decoded: {_first_line(str(error))}") from error


def _open_any(path: str | os.PathLike) -> "Image.Image":
    from PIL import Image

    try:
        return Image.open(path)
    except Image.UnidentifiedImageError:
        with open(path, "rb") as file:
            if not file.read(4).startswith(_TIFF_MAGIC):
                raise
        # Pillow knows no TIFF files of several channels of floats or 32-bit integers.
        values, scaling = to_rgb(_read_tiff(path))
        image = Image.fromarray(values)
        image.info[_SCALING] = scaling
        return image


def _read_tiff(path: str | os.PathLike) -> np.ndarray:
    import tifffile

    return tifffile.imread(path, key=0)


def _decode(path: str | os.PathLike, image: "Image.Image", upright: bool) -> tuple["Image.Image", str]:
    """The pixels as a Pillow image of mode RGB, and what was done to their values in words."""
    from PIL import Image, ImageOps

    # A second frame of a camera's JPEG (MPO) is the same picture again.
    several = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    values, scaling = _deep_pixels(path, image), image.info.get(_SCALING, "")
    if values is not None:
        orientation = image.getexif() if upright else None
        rgb, scaling = to_rgb(values)
        image = Image.fromarray(rgb)
        if orientation:
            image.getexif().update(orientation)
    if upright:
        image = ImageOps.exif_transpose(image)
    notes = ("the first of several frames was taken" if several else "", scaling)
    return _as_rgb(image), "; ".join(filter(None, notes))


def _deep_pixels(path: str | os.PathLike, image: "Image.Image") -> np.ndarray | None:
    """The samples of an image that has more than 8 bits of each; None for all others."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    # Pillow keeps only the upper 8 of 16 bits where there are several channels.
    tiles = getattr(image, "tile", None)
    raw_mode = tiles[0][3] if tiles else ""
    raw_mode = raw_mode if isinstance(raw_mode, str) else str(raw_mode[0] if raw_mode else "")
    if not re.search(r";16", raw_mode):
        return None
    if image.format == "TIFF":
        return _read_tiff(path)
    if image.format == "PNG":
        with open(path, "rb") as file:
            return tf.io.decode_png(file.read(), dtype=tf.uint16).numpy()
    return None


def _as_rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image, ImageCms

    if image.mode == "LAB":
        converted = ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        return cast("Image.Image", converted)  # None only if it is converted in place
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        with_alpha = np.asarray(image.convert("RGBA"))
        return Image.fromarray(whiten(with_alpha[..., :3], with_alpha[..., 3]))
    return image.convert("RGB")


def _verified_bytes(path: str | os.PathLike) -> bytes:
    with open(path, "rb") as file:
        content = file.read()
    try:
        tf.io.decode_jpeg(content, channels=3)
    except tf.errors.InvalidArgumentError as error:
        raise UnreadableImage(f"{os.fspath(path)} is not a complete JPEG: {_first_line(error.message)}") from error
    return content


def _orientation(image: "Image.Image") -> int:
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    return orientation if orientation in range(2, 9) else 1


def _is_upright(image: "Image.Image", expected_size: tuple[int, int] | None) -> bool:
    """Whether an image with an EXIF orientation is to be shown as that says."""
    stored = (image.height, image.width)
    upright = stored[::-1] if _orientation(image) >= 5 else stored
    return expected_size is None or tuple(expected_size) == upright or tuple(expected_size) != stored


def _what_it_is(path: str | os.PathLike) -> str:
    with open(path, "rb") as file:
        content = file.read(512)
    start = content.lstrip().lower()
    if content.startswith((b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", *_TIFF_MAGIC)):
        return "it is truncated or damaged"
    if not start:
        return "it is empty"
    if b"<html" in start or start.startswith(b"<!doctype html"):
        return "it is a web page, not an image"
    if b"<svg" in start:
        return "it is a vector drawing (SVG)"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; fetch the file with `git lfs pull`"
    return "it is no image of a known kind"


def _first_line(text: str) -> str:
    """A message's first line without the position in a graph that TensorFlow puts in front."""
    text = re.sub(r"\{\{[^}]*\}\}|\[Op:[^]]*\]", "", text).strip()
    return text.splitlines()[0] if text else "unknown error"

"""The EXIF orientation of a JPEG, read and applied by TensorFlow's own ops, so that it works inside of a SavedModel."""

from collections.abc import Callable

import tensorflow as tf

_START_OF_SCAN = 0xDA
_APP1 = 0xE1
_ORIENTATION_TAG = 0x0112
_SHORT = 3
_ENTRY_BYTES = 12


def exif_orientation(jpeg: tf.Tensor) -> tf.Tensor:
    """The orientation tag of a JPEG.

    Args:
        jpeg: scalar string tensor, the file's content.

    Returns:
        Scalar int32 in 1..8, as the EXIF standard numbers them. 1, upright, where there is no tag or a damaged one.
    """
    content = tf.io.decode_raw(jpeg, tf.uint8)

    def byte(position: tf.Tensor) -> tf.Tensor:
        """Bytes at these positions; 0 beyond the end, so that a truncated file has no tag rather than an error."""
        inside = (position >= 0) & (position < tf.size(content))
        found = tf.gather(tf.concat([content, [0]], axis=0), tf.where(inside, position, tf.size(content)))
        return tf.cast(found, tf.int32)

    def big_endian(position: tf.Tensor) -> tf.Tensor:
        return byte(position) * 256 + byte(position + 1)

    tiff = _exif_segment(byte, big_endian)
    # The header names the byte order: "II", Intel's, or "MM", Motorola's.
    intel = byte(tiff) == ord("I")

    def short(position: tf.Tensor) -> tf.Tensor:
        return tf.where(intel, byte(position + 1) * 256 + byte(position), big_endian(position))

    # A segment has at most 64 KiB, so that the lower half of a 32-bit offset is all of it.
    directory = tiff + short(tiff + tf.where(intel, 4, 6))
    entries = directory + 2 + _ENTRY_BYTES * tf.range(short(directory))
    wanted = (short(entries) == _ORIENTATION_TAG) & (short(entries + 2) == _SHORT)
    orientation = tf.reduce_max(tf.concat([tf.where(wanted, short(entries + 8), 1), [1]], axis=0))
    return tf.where((tiff > 0) & (orientation <= 8), orientation, 1)


def _exif_segment(byte: Callable[[tf.Tensor], tf.Tensor], big_endian: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Position of the TIFF header in the segment that holds EXIF data; 0 where there is none."""
    signature = tf.constant(list(b"Exif\0\0"))

    def is_exif(segment: tf.Tensor) -> tf.Tensor:
        return (byte(segment + 1) == _APP1) & tf.reduce_all(byte(segment + 4 + tf.range(6)) == signature)

    def goes_on(segment: tf.Tensor) -> tf.Tensor:
        is_segment = (byte(segment) == 0xFF) & (byte(segment + 1) != _START_OF_SCAN)
        return is_segment & ~is_exif(segment)

    def following(segment: tf.Tensor) -> tuple[tf.Tensor]:
        return (segment + 2 + big_endian(segment + 2),)

    (segment,) = tf.while_loop(goes_on, following, [tf.constant(2)])
    return tf.where((byte(segment) == 0xFF) & is_exif(segment), segment + 10, 0)


def turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors an image as its EXIF orientation says.

    Args:
        image: `(H, W, C)`, as the file stores it.
        orientation: scalar int32 in 1..8.

    Returns:
        `(H, W, C)`, or `(W, H, C)` for orientations 5 to 8, as viewers show it.
    """

    def when(orientations: tuple[int, ...], turn: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor) -> tf.Tensor:
        return tf.cond(tf.reduce_any(orientation == tf.constant(orientations)), lambda: turn(image), lambda: image)

    image = when((5, 6, 7, 8), lambda image: tf.transpose(image, [1, 0, 2]), image)
    image = when((2, 3, 6, 7), lambda image: tf.reverse(image, [1]), image)
    return when((3, 4, 7, 8), lambda image: tf.reverse(image, [0]), image)

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tf_dcnv2.export.exif import exif_orientation, turn_upright

PIXELS = np.random.default_rng(0).integers(0, 256, [6, 10, 3]).astype(np.uint8)
ORIENTATION = 0x0112


def jpeg(exif: Image.Exif | bytes = b"", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", exif=exif, **options)
    return buffer.getvalue()


def tags(orientation: int, endian: str = "<") -> Image.Exif:
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "A camera's maker, in front of the orientation"
    exif[ORIENTATION] = orientation
    exif[0x0131] = "Some software, behind it"
    return exif


def orientation_of(content: bytes) -> int:
    # As a graph, as in a SavedModel.
    return int(tf.function(exif_orientation)(tf.constant(content)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_pillow_turns_it(orientation):
    image = Image.fromarray(PIXELS)
    image.getexif()[ORIENTATION] = orientation
    turned = turn_upright(tf.constant(PIXELS), tf.constant(orientation))
    np.testing.assert_array_equal(turned, np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_orientation_is_found_in_both_byte_orders(orientation, endian):
    assert orientation_of(jpeg(tags(orientation, endian).tobytes())) == orientation


def test_the_orientation_is_found_behind_other_segments():
    content = jpeg(tags(6).tobytes(), icc_profile=bytes(70_000), comment=b"a comment")
    assert orientation_of(content) == 6
    assert content.index(b"Exif") < content.index(b"ICC_PROFILE")
    # A thumbnail's or an editor's own APP1 segment comes first.
    xmp = b"\xff\xe1\x00\x0ahttp://\0"
    assert orientation_of(content[:2] + xmp + content[2:]) == 6


def test_a_file_without_an_orientation_is_upright():
    assert orientation_of(jpeg()) == 1
    assert orientation_of(jpeg(comment=b"Exif\0\0")) == 1
    assert orientation_of(b"") == 1
    assert orientation_of(b"\xff\xd8") == 1


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_that_the_standard_does_not_have_is_upright(value):
    assert orientation_of(jpeg(tags(value).tobytes())) == 1


def test_a_damaged_header_is_upright_or_what_it_says_and_never_an_error():
    content = jpeg(tags(6).tobytes())
    orientation = tf.function(exif_orientation, input_signature=[tf.TensorSpec([], tf.string)])
    random = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(content[: random.integers(2, 200)])
        for position in random.integers(2, len(damaged), 3) if len(damaged) > 2 else ():
            damaged[position] = random.integers(256)
        assert 1 <= int(orientation(bytes(damaged))) <= 8

"""What a user expects of image files of every kind: upright, as a viewer shows them, never black."""

import io
import json
import os

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image

from tests.support.hard_cases import CASES
from tf_dcnv2.data import convert_coco, read_dataset_info, read_image
from tf_dcnv2.data.images.files import read_as_jpeg, upright_size

FORMATS = CASES / "formats" / "img"
UNREADABLE = {
    "truncated.jpg": "truncated",
    "truncated2.jpg": "truncated",
    "truncated20.jpg": "truncated",
    "trunc_progressive.jpg": "truncated",
    "truncated.png": "truncated",
    "zero.jpg": "empty",
    "html.jpg": "web page",
    "x.svg": "SVG",
    "x.hdr": "no image of a known kind",
}
READABLE = sorted(path.name for path in FORMATS.iterdir() if path.name not in UNREADABLE)


@pytest.mark.parametrize("name", READABLE)
def test_the_two_rectangles_are_there_in_every_format(name):
    image = read_image(FORMATS / name).astype(float)
    if name == "rgba_transparent_white.png":
        assert (image == 255).all()
        return
    scale = image.shape[1] / 160
    first, second, ground = (image[int(y * scale), int(x * scale)] for y, x in ((45, 60), (75, 100), (15, 140)))
    assert np.abs(first - second).max() > 20
    assert np.abs(first - ground).max() > 20
    assert image.max() > 150


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_shown_is_named_with_the_reason(name):
    with pytest.raises(ValueError, match=UNREADABLE[name]) as error:
        read_image(FORMATS / name)
    assert name in str(error.value)


def test_conversion_leaves_out_only_what_cannot_be_read(convert):
    report = convert("formats")
    names = {
        image["id"]: image["file_name"] for image in json.loads((CASES / "formats" / "a.json").read_text())["images"]
    }
    left_out = {names[item.item_id] for item in report.skipped if item.kind == "image"}
    assert left_out == {*UNREADABLE, "x.ico"}  # the icon has another size than its annotations say
    assert sum(item.kind == "annotation" for item in report.skipped) == 2 * len(left_out)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["grey.png", "rgb.png", "grey.tiff", "rgb.tiff"])
def test_pixels_of_any_depth_in_16_bits_keep_their_brightness(tmp_path, bits, kind):
    ramp = np.round(np.linspace(0, 2**bits - 1, 64)).astype(np.uint16)
    pixels = np.broadcast_to(ramp, (48, 64))
    pixels = np.repeat(pixels[..., None], 3, axis=2) if kind.startswith("rgb") else np.ascontiguousarray(pixels)
    path = tmp_path / kind
    if kind.endswith("tiff"):
        tifffile.imwrite(path, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
    else:
        png = tf.io.encode_png(pixels if pixels.ndim == 3 else pixels[..., None])
        path.write_bytes(png.numpy())
    expected = np.linspace(0, 255, 64)
    np.testing.assert_allclose(read_image(path), np.broadcast_to(expected[:, None], (48, 64, 3)), atol=1)


@pytest.mark.parametrize("top", [1.0, 255.0, 4095.0, 65535.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_float_pixels_keep_their_brightness(tmp_path, top, channels):
    ramp = np.linspace(0, top, 64, dtype=np.float32)
    pixels = np.broadcast_to(ramp[:, None], (48, 64, 3)) if channels == 3 else np.broadcast_to(ramp, (48, 64))
    tifffile.imwrite(tmp_path / "x.tiff", pixels, photometric="rgb" if channels == 3 else "minisblack")
    expected = np.broadcast_to(np.linspace(0, 255, 64)[:, None], (48, 64, 3))
    np.testing.assert_allclose(read_image(tmp_path / "x.tiff"), expected, atol=1)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((48, 64), np.nan, np.float32), "not finite"),
        (np.full((48, 64), -3.0, np.float32), "negative pixels"),
        (np.full((48, 64), -3, np.int32), "negative pixels"),
        (np.full((48, 64), 1e20, np.float32), "pixels up to 1e"),
        (np.zeros((48, 64, 7), np.float32), "a detector takes grey or RGB"),
    ],
)
def test_pixels_that_are_no_picture_are_refused_by_name(tmp_path, pixels, reason):
    tifffile.imwrite(tmp_path / "x.tiff", pixels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ValueError, match=reason) as error:
        read_image(tmp_path / "x.tiff")
    assert "x.tiff" in str(error.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(ValueError, match="no regular file"):
        read_image(tmp_path / "x.jpg")


def test_stored_frames_and_upright_ones_are_read_as_asked(tmp_path):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), np.rot90(pixels, -1))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", upright=False), pixels)


@pytest.mark.parametrize(("size", "orientation"), [((48, 64), "stored"), ((64, 48), "upright")])
def test_the_data_set_says_which_frame_its_annotations_are_of(tmp_path, size, orientation):
    image = Image.fromarray(np.zeros((48, 64, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "x.jpg", exif=exif)
    content = {
        "images": [{"id": 1, "file_name": "x.jpg", "height": size[0], "width": size[1]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20]}],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    convert_coco(tmp_path, tmp_path / "a.json", tmp_path / "set")
    assert read_dataset_info(tmp_path / "set").orientation == orientation


def test_annotations_of_both_frames_in_one_data_set_are_warned_about(tmp_path):
    image = Image.fromarray(np.zeros((48, 64, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    sizes = {"stored": (48, 64), "upright": (64, 48)}
    for name in sizes:
        image.save(tmp_path / f"{name}.jpg", exif=exif)
    content = {
        "images": [
            {"id": number, "file_name": f"{name}.jpg", "height": height, "width": width}
            for number, (name, (height, width)) in enumerate(sizes.items())
        ],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 20]} for n in range(2)],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    report = convert_coco(tmp_path, tmp_path / "a.json", tmp_path / "set")
    assert any("prediction turns all images upright" in warning for warning in report.warnings)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_unless_only_the_stored_frame_has_the_size(tmp_path, orientation):
    image = Image.new("RGB", (64, 48))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "x.jpg", exif=exif)
    shown = (64, 48) if orientation >= 5 else (48, 64)
    encoded = read_as_jpeg(tmp_path / "x.jpg", expected_size=shown)
    assert (encoded.height, encoded.width) == shown
    assert encoded.orientation == ("" if orientation == 1 else "upright")
    if orientation >= 5:
        stored = read_as_jpeg(tmp_path / "x.jpg", expected_size=(48, 64))
        assert (stored.height, stored.width, stored.orientation) == (48, 64, "stored")


def test_a_palette_with_transparency_is_white_where_nothing_is_seen(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = [200, 10, 10, 255]
    buffer = io.BytesIO()
    Image.fromarray(pixels).quantize().save(buffer, format="PNG")
    (tmp_path / "x.png").write_bytes(buffer.getvalue())
    image = read_image(tmp_path / "x.png")
    assert (image[4:] == 255).all()
    assert np.abs(image[:4].astype(int) - [200, 10, 10]).max() < 10


def test_everything_that_was_done_to_the_pixels_is_said(tmp_path):
    frames = np.full((2, 48, 64), 4095, np.uint16)
    tifffile.imwrite(tmp_path / "x.tiff", frames, photometric="minisblack")
    note = read_as_jpeg(tmp_path / "x.tiff").note
    assert "the first of several frames was taken; " in note and "scaled" in note
    tifffile.imwrite(tmp_path / "x.tiff", np.linspace(0, 1, 48 * 64 * 3, dtype=np.float32).reshape(48, 64, 3))
    assert "scaled" in read_as_jpeg(tmp_path / "x.tiff").note


def test_an_image_that_no_jpeg_can_hold_is_called_too_long(tmp_path):
    Image.fromarray(np.zeros((2, 70_000), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"70000x2 pixels, but JPEG.* at most 65500"):
        read_as_jpeg(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").shape == (2, 70_000, 3)


@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (48, 64)), (3, (48, 64)), (5, (64, 48)), (6, (64, 48)), (8, (64, 48))]
)
def test_the_size_of_a_file_is_that_which_a_viewer_shows(tmp_path, orientation, size):
    image = Image.new("RGB", (64, 48))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "x.jpg", exif=exif)
    assert upright_size(tmp_path / "x.jpg") == size == read_image(tmp_path / "x.jpg").shape[:2]
    assert upright_size(tmp_path / "none.jpg") is None

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dcnv2.data import read_image
from tf_dcnv2.data.images.resizing import prepare_image, resize_image
from tf_dcnv2.export.serving_graph import ServingGraph, decode_file, resize_in_graph

RANDOM = np.random.default_rng(0)
SIZES = [(50, 80), (100, 70), (33, 33)]


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth shapes with noise, of which a JPEG loses little."""
    y, x = np.mgrid[:height, :width]
    waves = np.sin(y / 9)[..., None] * np.cos(x[..., None] / np.array([7, 11, 17])) * 100 + 128
    return np.clip(waves + RANDOM.normal(0, 3, waves.shape), 0, 255).astype(np.uint8)


def save(path, image: Image.Image, **options) -> bytes:
    image.save(path, **options)
    return path.read_bytes()


class Recorder:
    """Stands for a detector: keeps what it is given, and finds one box, of the whole image without padding."""

    def __call__(self, images: tf.Tensor, image_sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        self.images, self.image_sizes = images, image_sizes
        boxes = tf.concat([tf.zeros_like(image_sizes), image_sizes], axis=1)[:, None]
        return {"boxes": boxes, "scores": tf.ones_like(boxes[..., 0])}


def make_graph(resizing: str = "tensorflow") -> tuple[ServingGraph, Recorder]:
    network = Recorder()
    return ServingGraph(network, short_side=64, max_side=100, resizing=resizing), network


def test_images_of_several_sizes_reach_the_network_as_prepare_image_makes_them():
    graph, network = make_graph()
    images = [photograph(*size) for size in SIZES]
    batch = np.stack([np.pad(image, [(0, 100 - image.shape[0]), (0, 80 - image.shape[1]), (0, 0)]) for image in images])
    # What lies beyond an image's size is not looked at.
    batch[0, 50:] = 255
    found = graph.of_images(tf.constant(batch), tf.constant(SIZES))
    height, width = network.images.shape[1:3]
    for index, image in enumerate(images):
        prepared = prepare_image(image, short_side=64, max_side=100)
        expected = tf.image.pad_to_bounding_box(prepared["images"], 0, 0, height, width)
        np.testing.assert_array_equal(network.images[index], expected[0])
        np.testing.assert_array_equal(network.image_sizes[index], prepared["image_sizes"][0])
    # Boxes are in pixels of what was given.
    np.testing.assert_allclose(found["boxes"][:, 0, 2:], SIZES, rtol=1e-6)


@pytest.mark.parametrize("resizing", ["tensorflow", "torchvision", "opencv", "pillow"])
@pytest.mark.parametrize("shape", [(64, 102), (25, 40), (50, 80)])
def test_images_are_resized_as_by_each_library_to_one_grey_level(resizing, shape):
    image = photograph(50, 80)
    expected = np.asarray(resize_image(tf.constant(image), tf.constant(shape), resizing), np.float32)
    resized = np.asarray(resize_in_graph(tf.constant(image), tf.constant(shape), resizing))
    # OpenCV and Pillow compute in whole numbers.
    assert np.abs(resized - expected).max() <= (1 if resizing in ("opencv", "pillow") else 0)


def test_files_of_several_sizes_are_decoded_and_detected_as_their_pixels():
    graph, network = make_graph()
    images = [photograph(*size) for size in SIZES]
    files = [tf.io.encode_png(image) for image in images]
    found = tf.function(graph.of_files)(tf.stack(files))
    np.testing.assert_allclose(found["boxes"][:, 0, 2:], SIZES, rtol=1e-6)
    graph.of_files(tf.stack(files[:1]))
    np.testing.assert_array_equal(network.images, prepare_image(images[0], short_side=64, max_side=100)["images"])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_decoded_as_by_read_image(tmp_path, mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(photograph(40, 60)).convert(mode)
    content = save(tmp_path / "x.jpg", image, exif=exif)
    # CMYK is converted to RGB with other rounding.
    difference = np.abs(decode_file(tf.constant(content)).numpy().astype(int) - read_image(tmp_path / "x.jpg"))
    assert difference.max() <= (2 if mode == "CMYK" else 0)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA"])
def test_a_png_is_decoded_as_by_read_image(tmp_path, mode):
    image = Image.fromarray(photograph(40, 60))
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray((RANDOM.integers(0, 3, [40, 60]) * 127).astype(np.uint8)))
    content = save(tmp_path / "x.png", image.convert(mode))
    np.testing.assert_array_equal(decode_file(tf.constant(content)), read_image(tmp_path / "x.png"))


def test_a_bmp_and_the_first_frame_of_a_gif_are_decoded_as_by_read_image(tmp_path):
    image = Image.fromarray(photograph(40, 60))
    content = save(tmp_path / "x.bmp", image)
    np.testing.assert_array_equal(decode_file(tf.constant(content)), read_image(tmp_path / "x.bmp"))
    frames = [image.quantize(), image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).quantize()]
    content = save(tmp_path / "x.gif", frames[0], save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_file(tf.constant(content)), read_image(tmp_path / "x.gif"))


def test_what_is_no_image_is_refused_by_name():
    graph, _ = make_graph()
    buffer = io.BytesIO()
    Image.fromarray(photograph(40, 60)).save(buffer, "TIFF")
    for content in (b"", b"<html>", buffer.getvalue()):
        with pytest.raises(tf.errors.InvalidArgumentError, match="Input is empty|Unknown image file format"):
            tf.function(graph.of_files)(tf.constant([content]))

"""Detection on images of any size as one TensorFlow graph: decode, resize, pad, call, and back to the image's pixels.

`FasterRCNN.detect` does the same in Python. Shapes: B >= 1 images of H x W pixels, h x w after resizing.
"""

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from tf_dcnv2.data.images.resizing import SIZE_MULTIPLE, Resizing, resize_image, resized_shape
from tf_dcnv2.export.exif import exif_orientation, turn_upright

Network = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]


class ServingGraph:
    """A detector as functions of images, and of image files, for the signatures of a SavedModel.

    Args:
        network: a function of `images` `(B, h, w, 3)` and `image_sizes` `(B, 2)`, a detector's call.
        short_side: pixels to which the shorter side of an image is resized.
        max_side: most pixels of the longer side.
        resizing: whose arithmetic to follow, see `tf_dcnv2.data.prepare_image`. OpenCV's and Pillow's are followed to
            one grey level: neither library is there when a graph runs.
    """

    def __init__(self, network: Network, *, short_side: int, max_side: int, resizing: Resizing):
        self._network = network
        self._resized_shape = partial(resized_shape, short_side=short_side, max_side=max_side, resizing=resizing)
        self._resizing = resizing

    def of_images(self, images: tf.Tensor, image_sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Detections in images `(B, H, W, 3)` uint8, each of `image_sizes` `(B, 2)` int32 pixels at the top left."""

        def read(element: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image, size = element
            # An image without pixels could not be resized: the largest part of it that there is, at least one.
            height, width = tf.unstack(tf.maximum(size, 1))
            return image[:height, :width]

        return self._detect((images, image_sizes), read)

    def of_files(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Detections in image files, `(B,)` strings."""
        return self._detect(image_bytes, decode_file)

    def _detect(self, elements: tf.Tensor | tuple[tf.Tensor, ...], read: Callable) -> dict[str, tf.Tensor]:
        def prepare(element: tf.Tensor | tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            image = read(element)
            original_size = tf.shape(image)[:2]
            size = self._resized_shape(original_size[0], original_size[1])
            return tf.reshape(resize_in_graph(image, size, self._resizing), [-1]), size, original_size

        sizes = tf.TensorSpec([2], tf.int32)
        pixels, resized, original = tf.map_fn(
            prepare, elements, fn_output_signature=(tf.RaggedTensorSpec([None], tf.float32, 0), sizes, sizes)
        )
        # All are padded to the largest of them.
        canvas = tf.reduce_max(resized, axis=0)
        canvas += -canvas % SIZE_MULTIPLE
        heights, widths = tf.unstack(resized, axis=1)
        rows = tf.RaggedTensor.from_nested_row_lengths(
            tf.reshape(pixels.flat_values, [-1, 3]), [heights, tf.repeat(widths, heights)]
        )
        images = tf.ensure_shape(rows.to_tensor(shape=tf.concat([[-1], canvas, [3]], axis=0)), [None, None, None, 3])
        detections = self._network(images, tf.cast(resized, tf.float32))
        scale = tf.cast(original, tf.float32) / tf.cast(resized, tf.float32)
        return {**detections, "boxes": detections["boxes"] * tf.tile(scale, [1, 2])[:, None]}


def decode_file(content: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG, PNG, BMP or GIF file of 8 bits a sample, as `tf_dcnv2.data.read_image` does.

    Args:
        content: scalar string tensor. A JPEG is turned as its EXIF orientation says; entirely transparent pixels of a
            PNG become white; of an animation the first frame is taken.

    Returns:
        `(H, W, 3)` uint8, RGB.
    """

    def jpeg() -> tf.Tensor:
        # TensorFlow's default transform is a faster and less accurate one.
        stored = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
        return turn_upright(stored, exif_orientation(content))

    def png() -> tf.Tensor:
        rgba = tf.io.decode_png(content, channels=4)
        return tf.where(rgba[..., 3:] == 0, tf.constant(255, tf.uint8), rgba[..., :3])

    def other() -> tf.Tensor:
        return tf.io.decode_image(content, channels=3, expand_animations=False)

    is_png = tf.strings.substr(content, 0, 4) == b"\x89PNG"
    image = tf.cond(tf.io.is_jpeg(content), jpeg, lambda: tf.cond(is_png, png, other))
    return tf.ensure_shape(image, [None, None, 3])


def resize_in_graph(image: tf.Tensor, shape: tf.Tensor, resizing: Resizing) -> tf.Tensor:
    """What `tf_dcnv2.data.images.resizing.resize_image` does, by TensorFlow's ops alone.

    Returns:
        `(h, w, 3)` float32 in 0..255; whole numbers unless `resizing` is "torchvision".
    """
    if resizing == "pillow":
        # Averages over all pixels that shrink into one.
        resized = tf.image.resize(image, shape, method="bilinear", antialias=True)
        return tf.clip_by_value(tf.round(resized), 0.0, 255.0)
    return tf.cast(resize_image(image, shape, "tensorflow" if resizing == "opencv" else resizing), tf.float32)

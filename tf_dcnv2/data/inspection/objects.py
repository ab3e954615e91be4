"""Reads the objects of a set of records, without decoding a single image.

Shapes: I images, N objects.
"""

import dataclasses
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_dcnv2.data.images.resizing import Resizing, resized_shape
from tf_dcnv2.data.records.dataset_info import DatasetInfo
from tf_dcnv2.data.records.files import prefix_of
from tf_dcnv2.data.records.reading import read_records

_REPORT_EVERY = 100


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """The images of a set of records and their objects.

    Attributes:
        files: `(I,)` names of the image files, as the annotations give them.
        prefixes: `(I,)` which set of records each image is in.
        fingerprints: `(I,)` the same for two images of the same bytes, and as good as never for others.
        sizes: `(I, 2)` height and width in pixels of the file.
        image_of: `(N,)` the index of each object's image.
        boxes: `(N, 4)` `[y1, x1, y2, x2]` in pixels of the file.
        classes: `(N,)` category ids.
        crowd: `(N,)` bool.
    """

    files: np.ndarray
    prefixes: np.ndarray
    fingerprints: np.ndarray
    sizes: np.ndarray
    image_of: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray

    def resized_boxes(self, short_side: int, max_side: int, resizing: Resizing = "tensorflow") -> np.ndarray:
        """The boxes `(N, 4)` in pixels of the images that the network gets.

        Args:
            short_side: see `tf_dcnv2.data.load_records`.
            max_side: see there.
            resizing: see there.
        """
        known = {tuple(size) for size in self.sizes.tolist()}
        scales = {
            size: resized_shape(*size, short_side=short_side, max_side=max_side, resizing=resizing).numpy() / size
            for size in known
        }
        factors = np.array([scales[tuple(size)] for size in self.sizes.tolist()]).reshape(-1, 2)
        return self.boxes * np.tile(factors[self.image_of], 2)


def read_image_set(info: DatasetInfo, progress: Callable[[int, int], None] | None = None) -> ImageSet:
    """Reads the boxes and names of all images of a set of records.

    Args:
        info: the description of the records.
        progress: called as `progress(done, total)` from time to time.

    Raises:
        tf.errors.InvalidArgumentError: a record is truncated or corrupt; the message names the file.
    """
    paths = list(info.shards)
    labels = [prefix_of(path) or path for path in paths]
    dataset = read_records(paths, labels).map(_parse, num_parallel_calls=os.cpu_count()).prefetch(_REPORT_EVERY)
    rows = []
    for row in dataset.as_numpy_iterator():
        rows.append(row)
        if progress is not None and (len(rows) % _REPORT_EVERY == 0 or len(rows) == info.num_images):
            progress(len(rows), info.num_images)
    sizes = np.array([row["size"] for row in rows], np.int64).reshape(-1, 2)
    counts = [len(row["boxes"]) for row in rows]
    image_of = np.repeat(np.arange(len(rows)), counts)
    classes = np.concatenate([row["classes"] for row in rows]).astype(np.int64)
    for prefix, changed in info.renumbering.items():
        inside = np.array([row["prefix"].decode() == prefix for row in rows])[image_of]
        own = classes.copy()
        for old, new in changed.categories.items():
            classes[inside & (own == old)] = new
    return ImageSet(
        files=np.array([row["file"].decode() for row in rows], object),
        prefixes=np.array([row["prefix"].decode() for row in rows], object),
        fingerprints=np.array([row["fingerprint"] for row in rows], np.int64),
        sizes=sizes,
        image_of=image_of,
        boxes=np.concatenate([row["boxes"] for row in rows]) * np.tile(sizes[image_of], 2),
        classes=classes,
        crowd=np.concatenate([row["crowd"] for row in rows]).astype(bool),
    )


def _parse(record: tf.Tensor, prefix: tf.Tensor) -> dict[str, tf.Tensor]:
    scalar, several = tf.io.FixedLenFeature, tf.io.VarLenFeature
    sides = [f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax")]
    parsed = tf.io.parse_single_example(
        record,
        {
            "image/filename": scalar([], tf.string, ""),
            "image/encoded": scalar([], tf.string),
            "image/height": scalar([], tf.int64),
            "image/width": scalar([], tf.int64),
            "image/object/class/label": several(tf.int64),
            "image/object/is_crowd": several(tf.int64),
            **{side: several(tf.float32) for side in sides},
        },
    )
    return {
        "file": parsed["image/filename"],
        "prefix": prefix,
        "fingerprint": tf.strings.to_hash_bucket_fast(parsed["image/encoded"], 2**63 - 1),
        "size": tf.stack([parsed["image/height"], parsed["image/width"]]),
        "boxes": tf.stack([tf.sparse.to_dense(parsed[side]) for side in sides], axis=-1),
        "classes": tf.sparse.to_dense(parsed["image/object/class/label"]),
        "crowd": tf.sparse.to_dense(parsed["image/object/is_crowd"]),
    }

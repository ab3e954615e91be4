"""Error-bounded saliency regions: the smallest part of an image that gives a node's response (paper sec. 3.2)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.analysis._response import Response, response_of
from tf_dcnv2.analysis.nodes import Node

Progress = Callable[[str, int], None]


class SaliencyRegion(NamedTuple):
    """A part of an image that gives a node nearly the same response as the whole.

    Attributes:
        mask: bool `(H, W)`, the region.
        error: 1 - cosine similarity of the node's vectors on the whole image and on the region alone.
        bound: what `error` stays below.
        empty_error: the error of an image of which nothing is left. The nearer it is to `bound`, the less the region
            says: the node's vector has nearly the same direction whatever it looks at.
        rectangle: `(y1, x1, y2, x2)` in pixels, the rectangle that the region was cut out of.
        superpixels: int32 `(H, W)`, the super-pixels of the rectangle counted from 1, 0 outside of it.
        evaluations: masked images that the model was run on.
    """

    mask: np.ndarray
    error: float
    bound: float
    empty_error: float
    rectangle: tuple[int, int, int, int]
    superpixels: np.ndarray
    evaluations: int


def error_bounded_saliency(
    model: keras.Model,
    image: Any,
    node: Node,
    *,
    bound: float = 0.1,
    steps: int = 40,
    superpixels: int = 60,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> SaliencyRegion:
    """The smallest region M of an image I with 1 - cos(N(I), N(I * M)) < `bound`, where N is the vector of a node.

    Found in two steps, as in Deformable ConvNets v2, sec. 3.2 and appendix: a rectangle around the node or RoI grows by
    steps of equal area until the bound holds; then its super-pixels are removed, those first that raise the error
    least, until the removal of any other would break the bound. Several are removed at once while the bound is far, and
    the errors of all removals are computed anew after that.

    What is masked is zero for the network: for a detector, after the mean of the pixels was taken off.

    Args:
        model: a detector, or any Keras model.
        image: `(H, W, C)` as the model takes it. For a detector, RGB 0..255, at the size that the network sees:
            see `network_image`.
        node: a `ConvNode`, or for a detector a `RoINode`, whose whole feature counts: without channel or category.
        bound: of the error, between 0 and 1.
        steps: of the rectangle, from `1 / steps` of the image to all of it.
        superpixels: about how many the rectangle is divided into.
        batch_size: masked images that go through the model at a time.
        progress: is called as `progress(step, evaluations)` after each batch, with the name of the step, "rectangle" or
            "super-pixels", and the masked images so far.

    Returns:
        The region, with its error.

    Raises:
        ValueError: an argument is out of range, the model has no such node, or the node's response is zero or a single
            number, of which there is no cosine.

    Example:
        >>> region = error_bounded_saliency(detector, image, RoINode((30.0, 40.0, 130.0, 200.0)))
        >>> float(region.mask.mean()), region.error < region.bound
        (0.07, True)
    """
    for name, value in (("steps", steps), ("superpixels", superpixels), ("batch_size", batch_size)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1. Received: {name}={value!r}")
    if not 0 < bound < 1:
        raise ValueError(f"bound must be between 0 and 1. Received: bound={bound!r}")
    response = response_of(model, image, node)
    errors = _MaskedErrors(response, batch_size, progress)
    (empty_error,) = errors("rectangle", [np.zeros(response.size, bool)])
    rectangle, error = _grown_rectangle(errors, response, bound, steps)
    labels = _superpixels(np.asarray(response.image[0]), rectangle, superpixels)
    mask, error = _pruned(errors, labels, bound, error)
    return SaliencyRegion(mask, error, bound, empty_error, rectangle, labels, errors.evaluations)


class _MaskedErrors:
    """The errors 1 - cos(N(I), N(I * M)) of masks, a batch at a time."""

    def __init__(self, response: Response, batch_size: int, progress: Progress | None) -> None:
        self._image = response.network.prepare(response.image)
        self._batch_size = batch_size
        self._progress = progress
        self.evaluations = 0
        reference = response.of_prepared(self._image)
        if reference.shape[1] < 2 or not bool(tf.reduce_any(reference != 0)):
            what = "a single number" if reference.shape[1] < 2 else "zero"
            raise ValueError(
                f"The response of node must be a vector other than zero, whose direction can be compared. It is {what}."
            )
        self._respond = tf.function(
            lambda masks: 1.0 - _cosine(response.of_prepared(self._image * masks[..., None]), reference),
            input_signature=[tf.TensorSpec([None, *response.size])],
        )

    def __call__(self, step: str, masks: list[np.ndarray]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(masks), self._batch_size):
            batch = np.stack(masks[start : start + self._batch_size]).astype(np.float32)
            found += self._respond(batch).numpy().tolist()
            self.evaluations += len(batch)
            if self._progress is not None:
                self._progress(step, self.evaluations)
        return found


def _cosine(vectors: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
    """Cosine similarity, 0 for a vector of zeros."""
    return tf.reduce_sum(tf.math.l2_normalize(vectors, -1) * tf.math.l2_normalize(reference, -1), axis=-1)


def _grown_rectangle(
    errors: _MaskedErrors, response: Response, bound: float, steps: int
) -> tuple[tuple[int, int, int, int], float]:
    """The smallest rectangle around the node that keeps the bound, and its error."""
    rectangles = [_rectangle(response, step / steps) for step in range(1, steps + 1)]
    for rectangle in rectangles:
        (error,) = errors("rectangle", [_filled(response.size, rectangle)])
        if error < bound:
            break
    # The last one is the whole image, which keeps every bound.
    return rectangle, error


def _rectangle(response: Response, share: float) -> tuple[int, int, int, int]:
    """The rectangle with a share of the image's area, in the shape of the RoI, or of the image for a cell.

    It is centred on the node, and goes on growing to the other sides where it meets the border of the image.
    """
    height, width = response.size
    y1, x1, y2, x2 = response.region
    shape, centre = np.array([y2 - y1, x2 - x1]), np.array([y1 + y2, x1 + x2]) / 2
    if y2 == y1:
        # A cell lies at the centre of a pixel; a rectangle counts from the image's edge.
        shape, centre = np.array([height, width], float), centre + 0.5

    def clipped(scale: float) -> np.ndarray:
        low, high = centre - scale * shape / 2, centre + scale * shape / 2
        return np.array([*np.clip(low, 0, response.size), *np.clip(high, 0, response.size)])

    smallest, largest = 0.0, float(max(2 * np.array(response.size) / shape))
    for _ in range(50):
        scale = (smallest + largest) / 2
        low_y, low_x, high_y, high_x = clipped(scale)
        too_small = (high_y - low_y) * (high_x - low_x) < share * height * width
        smallest, largest = (scale, largest) if too_small else (smallest, scale)
    low_y, low_x, high_y, high_x = clipped(largest)
    return int(low_y), int(low_x), math.ceil(high_y - 1e-6), math.ceil(high_x - 1e-6)


def _filled(size: tuple[int, int], rectangle: tuple[int, int, int, int]) -> np.ndarray:
    y1, x1, y2, x2 = rectangle
    mask = np.zeros(size, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def _superpixels(image: np.ndarray, rectangle: tuple[int, int, int, int], count: int) -> np.ndarray:
    """Labels from 1 within the rectangle, 0 outside of it."""
    from skimage.segmentation import slic

    y1, x1, y2, x2 = rectangle
    labels = np.zeros(image.shape[:2], np.int32)
    part = image[y1:y2, x1:x2]
    pixels = part.shape[0] * part.shape[1]
    if pixels <= count:
        labels[y1:y2, x1:x2] = np.arange(1, pixels + 1).reshape(part.shape[:2])
        return labels
    low, high = float(part.min()), float(part.max())
    scaled = (part - low) / (high - low) if high > low else np.zeros_like(part)
    labels[y1:y2, x1:x2] = slic(
        scaled, n_segments=count, convert2lab=part.shape[2] == 3, start_label=1, channel_axis=-1
    )
    return labels


def _pruned(errors: _MaskedErrors, labels: np.ndarray, bound: float, error: float) -> tuple[np.ndarray, float]:
    """Removes super-pixels while the bound holds, those that raise the error least.

    In rounds: the errors without each of them are computed, and as many are removed at once as leave half of what the
    bound still allows if their rises add up. The round ends the search in which no removal keeps the bound.
    """
    kept = labels > 0
    while kept.any():
        candidates = np.unique(labels[kept])
        alone = np.array(errors("super-pixels", [kept & (labels != label) for label in candidates]))
        order = np.argsort(alone, kind="stable")
        if alone[order[0]] >= bound:
            break
        rises = np.cumsum(np.maximum(alone[order] - error, 0))
        count = int(np.searchsorted(rises, (bound - error) / 2))
        remaining, left = kept & (labels != candidates[order[0]]), alone[order[0]]
        # Together they may raise the error more than their sum.
        while count > 1:
            without = kept & ~np.isin(labels, candidates[order[:count]])
            (together,) = errors("super-pixels", [without])
            if together < bound:
                remaining, left = without, together
                break
            count //= 2
        kept, error = remaining, float(left)
    return kept, error

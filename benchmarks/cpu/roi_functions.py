"""RoI pooling to measure: our op, and Model Garden's."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks.cpu.conv_functions import Run, compiled
from benchmarks.cpu.sizes import RoICase
from tf_dcnv2.ops import deform_roi_pool
from tf_dcnv2.ops.fpn import fpn_levels

ROI_ALIGN = "RoIAlign, 2 x 2 samples a bin"
ONE_SAMPLE = "RoIAlign, 1 sample a bin"
MODULATED = "modulated, 2 x 2 samples a bin"
MODEL_GARDEN = "Model Garden"

BINS = 7
_STRIDES = (4, 8, 16, 32)
_FIRST_LEVEL = 2
# With the rule of feature pyramids about half of these boxes are pooled from P2, a fifth each from P3 and P4.
_BOX_SIZE_PX = (16, 600)
_MOST_ELONGATED = 3.0


class RoIData(NamedTuple):
    """Features of P2-P5 `(1, H, W, C)`, boxes `(N, 4)` in pixels of the image, offset, mask, and `(N, 7, 7, C)`."""

    features: tuple[tf.Tensor, ...]
    boxes: tf.Tensor
    offset: tf.Tensor
    mask: tf.Tensor
    dy: tf.Tensor


def make_data(case: RoICase, seed: int = 0) -> RoIData:
    """Boxes with log-uniform sizes and aspect ratios, anywhere within the image."""
    random = np.random.default_rng(seed)
    height, width = case.image_size
    smallest, largest = np.log(_BOX_SIZE_PX)
    size = np.exp(random.uniform(smallest, largest, case.count))
    aspect = np.exp(random.uniform(-np.log(_MOST_ELONGATED), np.log(_MOST_ELONGATED), case.count))
    sides = np.minimum(np.stack([size * np.sqrt(aspect), size / np.sqrt(aspect)], axis=1), (height - 1, width - 1))
    corner = random.uniform(0, (height, width) - sides)
    pooled = (case.count, BINS, BINS)
    features = [
        random.standard_normal((1, height // stride, width // stride, case.channels), np.float32) for stride in _STRIDES
    ]
    return RoIData(
        features=tuple(tf.constant(level) for level in features),
        boxes=tf.constant(np.concatenate([corner, corner + sides], axis=1), tf.float32),
        offset=tf.constant(random.standard_normal((*pooled, 2), np.float32)),
        mask=tf.constant(random.random(pooled, np.float32)),
        dy=tf.constant(random.standard_normal((*pooled, case.channels), np.float32)),
    )


def first(data: RoIData, count: int) -> RoIData:
    """The first RoIs of them."""
    per_roi = ("boxes", "offset", "mask", "dy")
    return data._replace(**{name: getattr(data, name)[:count] for name in per_roi})


def forward(contender: str, data: RoIData) -> Run:
    """The contender's forward pass; its one output is `(N, 7, 7, C)`."""
    function = _function(contender, data)
    return compiled(lambda *features: [function(features)], data.features)


def forward_backward(contender: str, data: RoIData) -> Run:
    """Output and gradients of the features, P2 first."""
    function = _function(contender, data)

    def run(dy, *features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            y = function(features)
        gradients = tape.gradient(y, features, output_gradients=dy)
        return [y, *(tf.convert_to_tensor(gradient) for gradient in gradients)]

    return compiled(run, (data.dy, *data.features))


def composite(contender: str, data: RoIData) -> Run:
    """What one of our contenders gives when it is made of TensorFlow's own ops."""
    function = _ours(contender, data, "composite")
    return compiled(lambda *features: [function(features)], data.features)


def at_model_gardens_positions(data: RoIData) -> RoIData:
    """The boxes moved so that `ONE_SAMPLE` samples where Model Garden does, which takes coordinates as pixel centres.

    That is half a feature pixel further down and right.
    """
    stride = tf.gather(tf.constant(_STRIDES, tf.float32), fpn_levels(data.boxes, len(_STRIDES), finest=_FIRST_LEVEL))
    return data._replace(boxes=data.boxes + 0.5 * stride[:, None])


def _function(contender: str, data: RoIData) -> Callable[[Sequence[tf.Tensor]], tf.Tensor]:
    return _model_garden(data) if contender == MODEL_GARDEN else _ours(contender, data, "native")


def _ours(contender: str, data: RoIData, implementation: str) -> Callable[[Sequence[tf.Tensor]], tf.Tensor]:
    deformation = {"offset": data.offset, "mask": data.mask} if contender == MODULATED else {}
    samples = 1 if contender == ONE_SAMPLE else 2

    def pool(features):
        return deform_roi_pool(
            list(features),
            data.boxes,
            tf.zeros(data.boxes.shape[:1], tf.int32),
            **deformation,
            output_size=BINS,
            spatial_scale=[1 / stride for stride in _STRIDES],
            sampling_ratio=samples,
            implementation=implementation,
        )

    return pool


def _model_garden(data: RoIData) -> Callable[[Sequence[tf.Tensor]], tf.Tensor]:
    from official.vision.ops.spatial_transform_ops import multilevel_crop_and_resize

    def pool(features):
        levels = {str(_FIRST_LEVEL + index): level for index, level in enumerate(features)}
        return multilevel_crop_and_resize(levels, data.boxes[None], output_size=BINS)[0]

    return pool

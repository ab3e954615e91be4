"""This library's Mask R-CNN, for a process of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from benchmarks.cpu.detector_process import DETECTIONS, Run, serve_detector
from benchmarks.cpu.synthetic_image import CLASSES
from benchmarks.cpu.threads import use_threads
from benchmarks.cpu.training_step import compile_for_steps, first_step, synthetic_batch
from tf_dcnv2.models import MaskRCNN


def forward(preset: str, overrides: Mapping[str, Any], image_size: Sequence[int]) -> Run:
    """Detects the objects of one image.

    Args:
        preset: the detector.
        overrides: its settings that differ.
        image_size: (height, width) in pixels.
    """
    detector = _detector(preset, overrides)
    inputs, _ = synthetic_batch(*image_size)
    detect = tf.function(lambda inputs: detector(inputs), autograph=False)

    def run() -> dict[str, float]:
        found = detect(inputs)
        return {DETECTIONS: int(found["num_detections"][0])}

    return run


def step(preset: str, overrides: Mapping[str, Any], image_size: Sequence[int]) -> Run:
    """A training step on one image; arguments as of `forward`."""
    detector = _detector(preset, overrides)
    compile_for_steps(detector)
    _, take_step = first_step(detector, synthetic_batch(*image_size, masks=True))
    return lambda: {name: float(loss) for name, loss in take_step().items()}


def _detector(preset: str, overrides: Mapping[str, Any]) -> MaskRCNN:
    keras.utils.set_random_seed(0)
    # Without a threshold there are as many detections as there can be, whatever the weights.
    settings = {"box_head.score_threshold": 0.0, **overrides}
    return MaskRCNN.from_preset(preset, num_classes=CLASSES, **settings)


if __name__ == "__main__":
    serve_detector(forward, step, use_threads)

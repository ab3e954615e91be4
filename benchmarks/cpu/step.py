"""A training step of a deformable detector against one of a regular detector."""

import math
from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from benchmarks.agreement import Disagreement
from benchmarks.cpu.section import Section
from benchmarks.cpu.sizes import Sizes, StepCase
from benchmarks.report import times_table
from benchmarks.results import Goal, Group, time_goal
from benchmarks.timing import measure, stopwatch
from tf_dcnv2.models import FasterRCNN

MOST_TO_REGULAR = 1.25

_CLASSES = 80
_OBJECTS = 8


def run(sizes: Sizes, *, threads: int, repetitions: int, log: Callable[[str, str], None]) -> Section:
    """Measures steps on one image, without feature mimicking, and judges the goal.

    Args:
        sizes: `sizes.step` is what is measured.
        threads: TensorFlow has been told already.
        repetitions: rounds, of which a step that takes seconds gets fewer.
        log: told what is going on.

    Raises:
        Disagreement: a loss is not a number.
    """
    case = sizes.step
    height, width = case.image_size
    batches = tf.data.Dataset.from_tensors(synthetic_batch(height, width)).repeat()
    steps = {}
    for preset in (case.deformable, case.regular):
        log("step", f"{preset}, one image of {height} x {width} pixels")
        detector = _detector(preset, case)
        # The first step, with tracing, as any user takes it; later ones call what `fit` calls for each batch.
        history = detector.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0).history
        _check_losses(preset, {name: values[0] for name, values in history.items()})
        steps[preset] = partial(detector.train_function, iter(batches))
    group = Group(
        "training step",
        f"1 image, {height} x {width}",
        measure({preset: stopwatch(step) for preset, step in steps.items()}, repetitions),
    )
    return Section("step", [group], goals(group, case), [times_table("Training step", [group])])


def goals(group: Group, case: StepCase) -> list[Goal]:
    """How much longer the deformable detector's step may take."""
    subject = f"training step: time relative to {case.regular}"
    return time_goal(subject, group.case, group, case.deformable, case.regular, MOST_TO_REGULAR)


def synthetic_batch(height: int, width: int, seed: int = 0) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Inputs and targets of one image of noise with eight objects, as `tf_dcnv2.data.load_records` makes them."""
    random = np.random.default_rng(seed)
    size = np.array([height, width])
    sides = random.uniform(0.1, 0.5, [_OBJECTS, 2]) * size
    corners = random.uniform(0, 1, [_OBJECTS, 2]) * (size - sides)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    inputs = {
        "images": tf.constant(random.uniform(0, 255, [1, height, width, 3]), tf.float32),
        "image_sizes": tf.constant(size[None], tf.float32),
    }
    targets = {
        "boxes": tf.constant(boxes[None], tf.float32),
        "classes": tf.constant(random.integers(1, _CLASSES + 1, [1, _OBJECTS]), tf.int32),
    }
    return inputs, targets


def _detector(preset: str, case: StepCase) -> FasterRCNN:
    keras.utils.set_random_seed(0)
    detector = FasterRCNN.from_preset(preset, num_classes=_CLASSES, **case.overrides)
    # A rate of zero: every step does all the work on the same weights.
    detector.compile(keras.optimizers.SGD(0.0, momentum=0.9))
    return detector


def _check_losses(preset: str, losses: dict[str, float]) -> None:
    for name, loss in losses.items():
        if not math.isfinite(loss):
            raise Disagreement(f"{preset} does not compute: {name} is {loss}.")

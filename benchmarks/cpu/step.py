"""A training step of a deformable detector against one of a regular detector."""

from collections.abc import Callable

import keras

from benchmarks.agreement import check_losses
from benchmarks.cases import STEP
from benchmarks.cpu.section import Section
from benchmarks.cpu.sizes import DetectorCase, Sizes
from benchmarks.cpu.synthetic_image import CLASSES
from benchmarks.cpu.training_step import compile_for_steps, first_step, synthetic_batch
from benchmarks.report import times_table
from benchmarks.results import Goal, Group, time_goal
from benchmarks.timing import measure, stopwatch
from tf_dcnv2.models import FasterRCNN

MOST_TO_REGULAR = 1.25


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
    batch = synthetic_batch(height, width)
    steps = {}
    for preset in (case.deformable, case.regular):
        log("step", f"{preset}, one image of {height} x {width} pixels")
        detector = _detector(preset, case)
        losses, steps[preset] = first_step(detector, batch)
        check_losses(preset, losses)
    group = Group(
        STEP,
        str(case),
        measure({preset: stopwatch(step) for preset, step in steps.items()}, repetitions),
    )
    return Section("step", [group], goals(group, case), [times_table("Training step", [group])])


def goals(group: Group, case: DetectorCase) -> list[Goal]:
    """How much longer the deformable detector's step may take."""
    subject = f"{STEP}: time relative to {case.regular}"
    return time_goal(subject, group.case, group, case.deformable, case.regular, MOST_TO_REGULAR)


def _detector(preset: str, case: DetectorCase) -> FasterRCNN:
    keras.utils.set_random_seed(0)
    detector = FasterRCNN.from_preset(preset, num_classes=CLASSES, **case.overrides)
    compile_for_steps(detector)
    return detector

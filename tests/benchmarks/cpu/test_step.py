import keras
import pytest
import tensorflow as tf

from benchmarks.cpu import step
from tf_dcnv2.models.loss_model import LossModel


class Detector(LossModel):
    """Learns the mean of the images, which takes no time."""

    def __init__(self):
        super().__init__(loss_names=("mean_loss",))
        self.bias = self.add_weight(shape=(), initializer="zeros")
        self.steps = 0
        self.built = True

    def compute_losses(self, inputs, targets, training=True):
        return {"mean_loss": tf.square(tf.reduce_mean(inputs["images"]) - self.bias)}

    def train_step(self, data):
        self.steps += 1
        return super().train_step(data)


def test_steps_of_both_detectors_are_measured(sizes, log, monkeypatch):
    detectors = {}

    def make(preset, case):
        detector = detectors[preset] = Detector()
        detector.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        return detector

    monkeypatch.setattr(step, "_detector", make)
    section = step.run(sizes, threads=1, repetitions=4, log=log)
    (group,) = section.groups
    assert set(group.series) == set(detectors) == {"faster_rcnn_small_dcnv2", "faster_rcnn_small_regular"}
    # One to trace, two to warm up, four to measure.
    assert [detector.steps for detector in detectors.values()] == [7, 7]
    assert group.case == "1 image, 64 x 96"
    assert [goal.bound for goal in section.goals] == [1.25]


@pytest.mark.slow
def test_real_detectors_take_steps(sizes, log):
    series = step.run(sizes, threads=1, repetitions=1, log=log).groups[0].series
    assert all(times.median > 0 for times in series.values())

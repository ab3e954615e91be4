from benchmarks.gpu.cases import BOTH, FLOAT32, FORWARD, FULL, INPUT_GRADIENT, TF32, ConvCase
from benchmarks.gpu.estimates import conv_estimate
from benchmarks.gpu.findings import OURS, TORCHVISION


def test_estimates_are_of_the_stages_with_two_images():
    stage_4 = ConvCase(256, 50, 84, 2)
    assert stage_4 in FULL.cases
    assert conv_estimate(stage_4, OURS, TF32, FORWARD) == 0.08e-3
    assert conv_estimate(stage_4, TORCHVISION, FLOAT32, BOTH) == 1.9e-3


def test_what_nobody_estimated_has_no_estimate():
    assert conv_estimate(ConvCase(256, 50, 84, 16), OURS, TF32, FORWARD) is None
    assert conv_estimate(ConvCase(256, 50, 84, 2), OURS, TF32, INPUT_GRADIENT) is None

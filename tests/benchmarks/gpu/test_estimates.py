import re

import pytest

from benchmarks import ROOT
from benchmarks.cases import BOTH, FLOAT32, FORWARD, TF32, ConvCase
from benchmarks.gpu.cases import CONV_OF_TWO_IMAGES, CONV_PRECISIONS, FULL, INPUT_GRADIENT
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
    assert conv_estimate(ConvCase(256, 50, 84, 2), OURS, FLOAT32, FORWARD) is None


@pytest.mark.parametrize("who", [OURS, TORCHVISION])
@pytest.mark.parametrize("precision", CONV_PRECISIONS, ids=str)
def test_estimates_are_those_of_the_manual(who, precision):
    text = (ROOT / "docs" / "performance-gpu.md").read_text().partition("## What was expected")[2]
    row = re.search(rf"^\| {who}, {precision} \| (.*) \| (.*) \|$", text, re.MULTILINE)
    for work, cell in zip((FORWARD, BOTH), row.groups() if row else ("-", "-"), strict=True):
        stated = [None] * 3 if cell == "-" else [float(number) / 1e3 for number in cell.split(" / ")]
        assert [conv_estimate(case, who, precision, work) for case in CONV_OF_TWO_IMAGES] == pytest.approx(stated)

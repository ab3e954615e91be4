import sys

import numpy as np
import pytest

from benchmarks.agreement import Disagreement
from benchmarks.cases import BOTH, FORWARD, ConvCase
from benchmarks.cpu import conv, conv_functions, peers
from benchmarks.cpu.conv_checks import WORKS
from benchmarks.cpu.conv_functions import COMPOSITE, DENSE, MATMUL, NATIVE

pytestmark = pytest.mark.usefixtures("native_ops")

ENGINES = {peers.ONNXRUNTIME: ("onnx", "onnxruntime"), peers.OPENVINO: ("openvino",), peers.NCNN: ("ncnn",)}


def run(sizes, log):
    return conv.run(sizes, threads=1, repetitions=1, log=log)


def test_contenders_are_measured_on_every_case_in_every_type(sizes, log):
    section = run(sizes, log)
    contenders = {group.work: set(group.series) | set(group.absent) for group in section.groups}
    assert contenders == {
        "forward": {NATIVE, COMPOSITE, DENSE, MATMUL, *ENGINES},
        "forward + backward": {NATIVE, COMPOSITE, DENSE},
        "forward, bfloat16": {NATIVE, DENSE},
        "forward + backward, bfloat16": {NATIVE, DENSE},
        "forward, float16": {NATIVE, DENSE},
    }
    assert {group.case for group in section.groups} == {"4 ch, 5 x 7"}
    assert all(series.median > 0 for group in section.groups for series in group.series.values())


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_is_not_installed_is_said_to_be_so(engine, sizes, log, monkeypatch):
    monkeypatch.setitem(sys.modules, ENGINES[engine][-1], None)
    section = run(sizes, log)
    assert section.groups[0].absent[engine] == "not installed"
    assert engine not in section.groups[0].series
    assert not any(engine in goal.subject for goal in section.goals)
    (row,) = (row for row in section.tables[0].rows if row[0] == engine)
    assert row[1:] == ["not installed"]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_installed_engine_takes_part_and_gives_our_values(engine):
    for package in ENGINES[engine]:
        pytest.importorskip(package)
    data = conv_functions.make_data(ConvCase(6, 9, 11))
    (y,) = peers.peer(engine, data, threads=1)()
    (expected,) = conv_functions.forward(NATIVE, data)()
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("contender", [NATIVE, DENSE, MATMUL])
def test_a_wrong_contender_fails_by_its_name_before_anything_is_measured(contender, sizes, log, monkeypatch):
    forward = conv_functions.forward

    def wrong(name, data):
        function = forward(name, data)
        return (lambda: [1.01 * function()[0]]) if name == contender else function

    monkeypatch.setattr(conv_functions, "forward", wrong)
    monkeypatch.setitem(WORKS, FORWARD, wrong)
    monkeypatch.setattr(conv, "measure", lambda *arguments: pytest.fail("measured all the same"))
    # The dense convolution is what the others are held against, so a wrong one shows in the first of them.
    message = f"{NATIVE} disagrees with {DENSE}" if contender == DENSE else f"{contender} disagrees with "
    with pytest.raises(Disagreement, match=message):
        run(sizes, log)


def test_a_wrong_gradient_fails_too(sizes, log, monkeypatch):
    forward_backward = conv_functions.forward_backward

    def wrong(name, data):
        function = forward_backward(name, data)

        def run():
            *outputs, dmask = function()
            return [*outputs, dmask + 1.0]

        return run if name == NATIVE else function

    monkeypatch.setattr(conv_functions, "forward_backward", wrong)
    with pytest.raises(Disagreement, match=r"composite on forward \+ backward, 4 ch, 5 x 7, float32, output 5 of 5"):
        run(sizes, log)


@pytest.mark.parametrize(("contender", "gradients"), [(NATIVE, 4), (COMPOSITE, 4), (DENSE, 2)])
def test_a_backward_pass_gives_the_output_and_every_gradient(contender, gradients):
    data = conv_functions.make_data(ConvCase(4, 5, 7))
    y, *gradients_given = WORKS[BOTH](contender, data)()
    np.testing.assert_allclose(y, WORKS[FORWARD](contender, data)()[0], rtol=1e-4, atol=1e-5)
    inputs = (data.x, data.kernel, data.offset, data.mask)[:gradients]
    assert [gradient.shape for gradient in gradients_given] == [tensor.shape for tensor in inputs]


def test_offsets_are_spread_by_two_pixels_and_the_mask_over_zero_to_one():
    data = conv_functions.make_data(ConvCase(4, 50, 50))
    assert np.std(data.offset) == pytest.approx(2.0, rel=0.05)
    assert 0 <= np.min(data.mask) < 0.01 and 0.99 < np.max(data.mask) < 1

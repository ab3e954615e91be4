import pytest

from benchmarks.cpu import conv, detector, groups, roi, scaling, step
from benchmarks.cpu.conv_functions import DENSE, NATIVE
from benchmarks.cpu.peers import NCNN, ONNXRUNTIME, OPENVINO
from benchmarks.cpu.roi_functions import MODEL_GARDEN, MODULATED, ROI_ALIGN
from benchmarks.cpu.sizes import FULL
from benchmarks.results import Group
from benchmarks.timing import Series


def group(times: dict[str, float], work: str = "forward", **fields) -> Group:
    return Group(work, "a case", {name: Series((seconds,)) for name, seconds in times.items()}, **fields)


def test_convolution_is_to_beat_the_engines_and_to_stay_close_to_the_dense_one():
    forward = group({NATIVE: 1.2, DENSE: 1.0, ONNXRUNTIME: 1.1, OPENVINO: 1.3, NCNN: 2.0})
    both = group({NATIVE: 1.15, DENSE: 1.0}, work="forward + backward")
    assert [(goal.subject, goal.bound, goal.met) for goal in conv.goals([forward], [both])] == [
        ("forward: time relative to onnxruntime", 1.0, False),
        ("forward: time relative to OpenVINO", 1.0, True),
        ("forward: time relative to ncnn", 1.0, True),
        ("forward: time relative to dense convolution", 1.0, False),
        ("forward + backward: time relative to dense convolution", 1.2, True),
    ]


def test_bfloat16_is_to_stay_close_to_the_dense_convolution_and_to_leave_float32_behind():
    half = [
        group({NATIVE: 1.5, DENSE: 1.0, conv.IN_FLOAT32: 3.0}, work="forward, bfloat16"),
        group({NATIVE: 2.6, DENSE: 1.0}, work="forward + backward, bfloat16"),
        group({NATIVE: 9.0, DENSE: 1.0}, work="forward, float16"),
    ]
    assert [(goal.subject, goal.bound, goal.met) for goal in conv.bfloat16_goals(half)] == [
        ("forward, bfloat16: time relative to dense convolution", 2.0, True),
        ("forward, bfloat16: speed relative to float32", 2.5, False),
        ("forward + backward, bfloat16: time relative to dense convolution", 2.5, False),
    ]


def test_groups_are_to_stay_as_close_to_the_dense_convolution_in_both_directions():
    works = {"forward": 1.4, "forward + backward": 1.6}
    found = groups.goals([group({NATIVE: seconds, DENSE: 1.0}, work=work) for work, seconds in works.items()])
    assert [(goal.subject, goal.bound, goal.met) for goal in found] == [
        ("forward: time relative to dense convolution", 1.5, True),
        ("forward + backward: time relative to dense convolution", 1.5, False),
    ]


def test_roi_pooling_is_to_be_three_times_as_fast_with_and_without_modulation():
    goals = roi.goals([group({ROI_ALIGN: 1.0, MODULATED: 1.5, MODEL_GARDEN: 4.0})])
    assert [(goal.case, goal.bound, goal.met) for goal in goals] == [(ROI_ALIGN, 3.0, True), (MODULATED, 3.0, False)]


def test_two_threads_are_to_be_almost_twice_as_fast_as_one():
    works = {"forward": (1.0, 0.5), "forward + backward": (1.0, 0.6)}
    groups = [
        group({NATIVE: seconds, DENSE: 1.0}, work=work, topic="threads", size=count)
        for work, times in works.items()
        for count, seconds in enumerate(times, start=1)
    ]
    goals = scaling.goals(groups)
    assert [(goal.value, goal.bound, goal.met) for goal in goals] == [
        (2.0, 1.9, True),
        (pytest.approx(1 / 0.6), 1.9, False),
    ]


def test_one_thread_alone_has_no_goal():
    works = ("forward", "forward + backward")
    assert scaling.goals([group({NATIVE: 1.0, DENSE: 1.0}, work=work, topic="threads", size=1) for work in works]) == []


def test_a_deformable_training_step_may_take_a_quarter_longer():
    names = (FULL.step.deformable, FULL.step.regular)
    (goal,) = step.goals(group(dict(zip(names, (5.0, 4.0), strict=True))), FULL.step)
    assert (goal.value, goal.bound, goal.met) == (1.25, 1.25, True)


def test_a_deformable_detector_is_to_be_faster_than_torchvisions_regular_one():
    times = {detector.REGULAR: 1.0, detector.MDCONV: 2.0, detector.MDPOOL: 3.0, detector.TORCHVISION: 3.55}
    found = detector.goals([group(times, work=work) for work in ("forward", "training step")])
    assert [(goal.subject, goal.case, goal.value, goal.bound, goal.met) for goal in found] == [
        (f"Mask R-CNN {work}: speed relative to torchvision, regular", detector.MDCONV, 1.775, bound, met)
        for work, bound, met in (("forward", 1.8, False), ("training step", 1.75, True))
    ]

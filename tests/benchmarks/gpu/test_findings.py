import json

from benchmarks.cases import BOTH, FLOAT16, FLOAT32, FORWARD
from benchmarks.gpu.cases import KERNEL_GRADIENT
from benchmarks.gpu.findings import (
    DEFAULT,
    MODULATED_POOLING,
    OURS,
    TORCHVISION,
    VARIANTS,
    DeviceFacts,
    Findings,
    Memory,
)
from benchmarks.gpu.floors import Rates


def judged(*measurements, memory=()):
    findings = Findings(measurements=list(measurements), memory=list(memory))
    return [(goal.subject, goal.value, goal.bound, goal.met) for goal in findings.goals()]


def test_forward_is_to_beat_torchvision_itself_in_16_bits_and_to_stay_close_to_the_dense_convolution(conv_measurement):
    dense = "time relative to cuDNN's dense convolution"
    assert judged(conv_measurement(FORWARD)) == [
        ("forward, float32: speed relative to torchvision", 4.0, 3.0, True),
        (f"forward, float32: {dense}", 2.0, 1.5, False),
        (f"forward, TF32: {dense}", 1.0, 1.5, True),
        ("forward, bfloat16: speed relative to our float32", 4.0, 2.0, True),
        (f"forward, bfloat16: {dense}", 0.5, 1.5, True),
        ("forward, float16: speed relative to our float32", 4.0, 2.0, True),
        (f"forward, float16: {dense}", 0.5, 1.5, True),
    ]


def test_forward_and_backward_are_to_be_five_times_as_fast_as_torchvision(conv_measurement):
    assert judged(conv_measurement(BOTH)) == [
        ("forward + backward, float32: speed relative to torchvision", 4.0, 5.0, False),
        ("forward + backward, bfloat16: speed relative to our float32", 4.0, 2.0, True),
        ("forward + backward, float16: speed relative to our float32", 4.0, 2.0, True),
    ]


def test_pooling_is_to_be_as_fast_as_roi_align_in_the_precisions_that_both_have(measured):
    times = {(OURS, FLOAT32): 1.0, (TORCHVISION, FLOAT32): 1.0, (OURS, FLOAT16): 1.0}
    absent = {(TORCHVISION, FLOAT16): "not implemented"}
    assert judged(measured(times, subject=MODULATED_POOLING, absent=absent)) == [
        ("modulated pooling forward, float32: speed relative to roi_align", 1.0, 1.0, True)
    ]


def test_the_workspace_may_grow_by_a_copy_of_the_map_and_not_by_the_columns():
    numbers = {"workspace": 0, "map_per_image": 100, "columns": 450, "unaccounted": 0, "torchvision": None}
    copies = [Memory(case="a case", precision="float16", per_image=size, **numbers) for size in (100.0, 450.0)]
    assert [(value, met) for _, value, _, met in judged(memory=copies)] == [(1.0, True), (4.5, False)]


def test_single_gradients_and_variants_have_no_goals(measured):
    times = {(OURS, FLOAT32): 1.0, (TORCHVISION, FLOAT32): 1.0}
    assert not judged(measured(times, work=KERNEL_GRADIENT), measured({(DEFAULT, FLOAT32): 1.0}, subject=VARIANTS))


def test_findings_go_where_they_belong_and_what_is_wrong_is_collected(measured):
    findings = Findings()
    rates, item = Rates(1e12, {}), measured({(OURS, FLOAT32): 1.0}, wrong=["A value."])
    for finding in (DeviceFacts({"device": "a GPU"}), rates, item, DeviceFacts({"state": "hot"})):
        findings.add(finding)
    assert findings == Findings({"device": "a GPU", "state": "hot"}, rates, [item], [], ["A value."])


def test_findings_are_plain_data(conv_measurement):
    findings = Findings({"device": "a GPU"}, Rates(1e12, {"float32": 5e13}))
    findings.measurements.append(conv_measurement())
    data = json.loads(json.dumps(findings.to_dict()))
    assert data["measurements"][0]["milliseconds"]["tf-dcnv2, float16"]["median"] == 1000
    assert data["measurements"][0]["floor_milliseconds"]["TF32"] == {"bytes": 500, "operations": 250}
    assert data["measurements"][0]["estimate_milliseconds"]["tf-dcnv2, float32"] == 3000
    assert len(data["goals"]) == 7

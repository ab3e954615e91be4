"""A dry run: PyTorch on the CPU, and in the place of the kernels the float64 reference."""

import dataclasses
import json
import os
import time

import pytest

torch = pytest.importorskip("torch", reason="the GPU benchmark runs in PyTorch")

from benchmarks.cases import BFLOAT16, BOTH, FLOAT16, FLOAT32, FORWARD, TF32  # noqa: E402
from benchmarks.gpu import conv, reference, report, roi  # noqa: E402
from benchmarks.gpu.bench import Attempt, Bench  # noqa: E402
from benchmarks.gpu.cases import (  # noqa: E402
    CONV_PRECISIONS,
    CONV_WORKS,
    INPUT_GRADIENT,
    KERNEL_GRADIENT,
    OFFSET_GRADIENTS,
    ROI_WORKS,
    TINY,
    VARIANT_PRECISIONS,
)
from benchmarks.gpu.contenders import Contender, Contest  # noqa: E402
from benchmarks.gpu.device import EmulatedDevice  # noqa: E402
from benchmarks.gpu.findings import (  # noqa: E402
    CONV,
    DENSE,
    MODULATED_POOLING,
    OURS,
    POOLING,
    VARIANTS,
    Findings,
    contender,
)
from benchmarks.gpu.floors import Rates  # noqa: E402
from benchmarks.gpu.measurements import Setup, measure_everything, planned_tasks  # noqa: E402

RATES = Rates(1e9, {precision.name: 1e9 for precision in CONV_PRECISIONS})
GRADIENTS = ("dx", "dkernel", "doffset", "dmask")


class ReferenceKernels:
    """Rounds the reference's results; `spoil(name, tensor)` may change what is written."""

    def __init__(self, spoil=lambda name, tensor: tensor):
        self._spoil = spoil

    def conv_forward(self, x, kernel, offset, mask, y, workspace, options):
        y.copy_(self._spoil("y", reference.deform_conv(x, kernel, offset, mask, torch.zeros_like(y))[0]))

    def conv_workspace(self, x_shape, kernel, offset, options):
        batch, height, width, channels = x_shape
        return 0 if kernel.dtype == torch.float32 else 4 * batch * height * width * channels

    def conv_backward(self, x, kernel, offset, mask, dy, gradients, workspace, options):
        _, *results = reference.deform_conv(x, kernel, offset, mask, dy)
        for name, target, result in zip(GRADIENTS, gradients, results, strict=True):
            if target is not None:
                target.copy_(self._spoil(name, result))

    def roi_forward(self, features, boxes, box_indices, levels, offset, mask, y, **geometry):
        inputs = (features, boxes, box_indices, offset, mask)
        y.copy_(reference.roi_pool(*inputs, torch.zeros_like(y), **geometry)[0])

    def roi_workspace(self, features, boxes, options):
        return 0

    def roi_backward(
        self, features, boxes, box_indices, levels, offset, mask, dy, gradients, workspace, options, **geometry
    ):
        _, *results = reference.roi_pool(features, boxes, box_indices, offset, mask, dy, **geometry)
        for target, result in zip([g for g in gradients if g is not None], results, strict=True):
            target.copy_(result)


def failing(precision, work, fail):
    """Kernels that call `fail` for forward or a gradient of one precision."""

    def is_meant(x, options):
        dtype, allow_tf32 = getattr(torch, precision.storage), precision.allow_tf32
        return x.dtype == dtype and options.allow_tf32 == allow_tf32

    class Failing(ReferenceKernels):
        def conv_forward(self, x, kernel, offset, mask, y, workspace, options):
            if work == FORWARD and is_meant(x, options):
                fail()
            super().conv_forward(x, kernel, offset, mask, y, workspace, options)

        def conv_backward(self, x, kernel, offset, mask, dy, gradients, workspace, options):
            if is_meant(x, options) and (gradients[1] is not None if work == KERNEL_GRADIENT else work == BOTH):
                fail()
            super().conv_backward(x, kernel, offset, mask, dy, gradients, workspace, options)

    return Failing()


@dataclasses.dataclass(frozen=True)
class DrySetup(Setup):
    """With the kernels in the place of the library."""

    kernels: ReferenceKernels
    device: EmulatedDevice

    def bench(self, findings, send):
        torch.set_num_threads(1)
        return Bench(self.device, self.kernels, findings.rates, self.rounds, send)


@pytest.fixture
def measure():
    """Measures everything, or the tasks of some names, in processes of their own."""

    def run(kernels=None, tasks=None, seconds=600.0, save=lambda findings: None, device=None):
        findings = Findings()
        setup = DrySetup("emulated", TINY, 1, kernels or ReferenceKernels(), device or EmulatedDevice())
        planned = [task for task in planned_tasks(TINY) if tasks is None or task.name in tasks]
        measure_everything(
            findings, setup, planned, time.monotonic() + seconds, lambda topic, text: None, lambda: save(findings)
        )
        return findings

    return run


FIRST_CONV = f"convolution, {TINY.cases[0]}"


def test_a_dry_run_measures_and_judges_everything(measure):
    findings = measure()
    assert not findings.wrong
    conv_items = [(CONV, work) for work in CONV_WORKS]
    roi_items = [(subject, work) for subject in (POOLING, MODULATED_POOLING) for work in ROI_WORKS]
    variant_items = [(VARIANTS, work) for work in CONV_WORKS]
    assert [(item.subject, item.group.work) for item in findings.measurements] == [
        *(*conv_items, *roi_items, *conv_items, *variant_items)
    ]
    for item in findings.measurements:
        who = "default" if item.subject == VARIANTS else OURS
        assert {contender(who, precision) for precision in item.precisions} <= item.group.series.keys()
        assert item.floors.keys() == {precision.name for precision in item.precisions}
    dense = {contender(DENSE, precision) for precision in CONV_PRECISIONS}
    assert dense <= findings.measurements[0].group.series.keys()
    variants = findings.measurements[-len(CONV_WORKS)].group.series.keys()
    assert {contender("slab 4", precision) for precision in VARIANT_PRECISIONS} <= variants
    assert [(memory.precision, memory.per_image / memory.map_per_image) for memory in findings.memory] == [
        ("float32", 0),
        ("float16", 1),
    ]
    assert {goal.subject.split(",")[0] for goal in findings.goals()} >= {"forward", "backward"}
    assert findings.rates and findings.device["device"]


def test_results_are_saved_after_each_measurement(measure, tmp_path):
    counts = []

    def save(findings):
        report.write(findings, tmp_path)
        counts.append(len(json.loads((tmp_path / "results.json").read_text())["measurements"]))

    measure(tasks=[FIRST_CONV], save=save)
    # And once more when the case is done.
    assert counts == [1, 2, 3, 4, 5, 5]


@pytest.mark.parametrize(
    ("spoiled", "work"),
    [
        *(("y", FORWARD), ("dx", INPUT_GRADIENT), ("dkernel", KERNEL_GRADIENT)),
        *(("doffset", OFFSET_GRADIENTS), ("dmask", OFFSET_GRADIENTS)),
    ],
)
def test_a_wrong_value_is_reported_and_not_timed(measure, spoiled, work):
    def spoil(name, tensor):
        if name == spoiled:
            tensor.flatten()[0] += 0.1 * tensor.abs().max()
        return tensor

    findings = measure(ReferenceKernels(spoil), [FIRST_CONV])
    assert len(findings.wrong) == 2 * len(CONV_PRECISIONS)
    assert all("the largest error is 0.1 of the largest value" in text for text in findings.wrong)
    for item in findings.measurements:
        right = [name for name in item.group.series if name.startswith(OURS)]
        assert (len(right) == 0) is (item.group.work in (work, BOTH))


def test_what_is_merely_inexact_is_reported_and_timed_all_the_same(measure):
    def spoil(name, tensor):
        if name == "y":
            tensor.flatten()[0] += 3 * FLOAT32.tolerance * tensor.abs().max()
        return tensor

    findings = measure(ReferenceKernels(spoil), [FIRST_CONV])
    assert findings.wrong and all("the largest error is 0.0003 of" in text for text in findings.wrong)
    timed = {item.group.work for item in findings.measurements if contender(OURS, FLOAT32) in item.group.series}
    assert FORWARD in timed


def test_what_is_not_written_is_wrong_even_if_it_was_written_before(measure):
    class Idle(ReferenceKernels):
        def conv_backward(self, x, kernel, offset, mask, dy, gradients, workspace, options):
            if None in gradients:
                super().conv_backward(x, kernel, offset, mask, dy, gradients, workspace, options)

    findings = measure(Idle(), [FIRST_CONV])
    assert len(findings.wrong) == len(CONV_PRECISIONS)
    assert all(BOTH in text and "the largest error is inf" in text for text in findings.wrong)


def test_a_launch_of_ours_that_fails_is_wrong_and_loses_only_itself(measure):
    def fail():
        raise RuntimeError("no kernel image is available")

    findings = measure(failing(TF32, FORWARD, fail), [FIRST_CONV])
    assert findings.wrong == [
        f"tf-dcnv2, TF32, convolution, {work}, {TINY.cases[0]}: RuntimeError: no kernel image is available"
        for work in (FORWARD, BOTH)
    ]
    assert [item.group.work for item in findings.measurements] == list(CONV_WORKS)
    forward = findings.measurements[0].group
    assert forward.absent["tf-dcnv2, TF32"] == "RuntimeError"
    assert {contender(OURS, precision) for precision in (FLOAT32, BFLOAT16, FLOAT16)} <= forward.series.keys()


def test_a_kernel_that_ends_its_process_loses_only_itself_and_is_named(measure):
    findings = measure(failing(BFLOAT16, KERNEL_GRADIENT, os.abort))
    # The second convolution, and the variants, are cases of their own.
    first = [text for text in findings.wrong if text.startswith(f"{FIRST_CONV}:")]
    assert first == [
        f"{FIRST_CONV}: convolution, {work}, tf-dcnv2, bfloat16: ended by SIGABRT." for work in (KERNEL_GRADIENT, BOTH)
    ]
    items = {(item.subject, item.group.work, item.group.case): item.group for item in findings.measurements}
    for work in CONV_WORKS:
        group = items[CONV, work, str(TINY.cases[0])]
        lost = work in (KERNEL_GRADIENT, BOTH)
        assert group.absent.get("tf-dcnv2, bfloat16") == ("ended its process" if lost else None)
        assert "tf-dcnv2, TF32" in group.series
    assert (MODULATED_POOLING, BOTH, str(TINY.cases[1])) in items


def test_a_kernel_that_ends_its_process_while_all_take_turns_loses_only_itself(measure):
    runs = []

    def end_later():
        # Once for the values, twice to warm up.
        runs.append(None)
        if len(runs) == 3:
            os.abort()

    findings = measure(failing(TF32, FORWARD, end_later), [FIRST_CONV])
    assert findings.wrong == [
        f"{FIRST_CONV}: convolution, {work}, tf-dcnv2, TF32: ended by SIGABRT." for work in (FORWARD, BOTH)
    ]
    assert [item.group.work for item in findings.measurements] == list(CONV_WORKS)
    assert findings.measurements[0].group.absent["tf-dcnv2, TF32"] == "ended its process"


def test_a_device_that_a_failure_left_unusable_is_given_up_and_the_rest_measured_in_another_process(measure):
    class Device(EmulatedDevice):
        def synchronize(self):
            if lost:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")

    lost = []
    findings = measure(failing(TF32, FORWARD, lambda: lost.append(True)), [FIRST_CONV], device=Device())
    text = "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert findings.wrong == [f"{FIRST_CONV}: convolution, {work}, tf-dcnv2, TF32: {text}." for work in (FORWARD, BOTH)]
    assert [item.group.work for item in findings.measurements] == list(CONV_WORKS)


def test_what_there_is_no_time_for_is_named(measure):
    findings = measure(tasks=[FIRST_CONV], seconds=-1.0)
    assert findings.wrong == [f"{FIRST_CONV}: not measured, there was no time left."] and not findings.measurements


def contest(sent=None):
    bench = Bench(EmulatedDevice(), ReferenceKernels(), RATES, 1, (sent if sent is not None else []).append)
    return Contest(bench, CONV, FORWARD, "a case")


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (NotImplementedError('"deformable_im2col" not implemented for BFloat16'), "not implemented"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (ModuleNotFoundError("No module named 'torchvision'"), "not installed"),
    ],
)
def test_others_that_fail_are_absent_with_the_reason(error, word):
    def fail():
        raise error

    contested = contest()
    contested.admit(Contender("theirs", BFLOAT16, {FORWARD: fail}, list), [])
    assert contested.absent == {"theirs, bfloat16": word} and not contested.wrong


def test_others_have_to_be_right_in_float32_and_may_be_less_so_in_16_bits():
    contested = contest()
    for precision in (FLOAT32, BFLOAT16):
        run = {FORWARD: lambda: [torch.full((2,), 1.5)]}
        contested.admit(Contender("theirs", precision, run, list), [torch.ones(2, dtype=torch.float64)])
    assert contested.absent == {"theirs, float32": "error 5.0e-01"} and not contested.wrong
    assert [item.name for item in contested.admitted] == ["theirs, bfloat16"]


def test_attempts_are_announced_and_who_does_not_do_the_work_is_not_asked():
    sent = []
    contested = contest(sent)
    contested.admit(Contender("theirs", FLOAT32, {BOTH: lambda: pytest.fail("asked")}, list), [])
    contested.admit(Contender("theirs", TF32, {FORWARD: lambda: [torch.ones(2)]}), [])
    assert sent == [Attempt(CONV, FORWARD, "theirs, TF32")]


def test_positions_of_the_data_are_exact_in_float32_and_never_whole():
    data = conv.make_data(TINY.cases[0], "cpu")
    rows = data.offset.double() + 100
    assert torch.equal(rows, rows.float().double())
    assert not torch.any(rows == rows.round())


def test_bins_of_the_data_are_exact_in_float32():
    case = TINY.cases[1]
    boxes = roi.make_data(case, "cpu").boxes / case.stride - 0.5
    bins = (boxes[:, 2:] - boxes[:, :2]) / 7
    assert torch.equal(bins * 8, (bins * 8).round()) and bins.min() > 0
    assert not torch.any(boxes[:, :2] * 1024 == (boxes[:, :2] * 1024).round())

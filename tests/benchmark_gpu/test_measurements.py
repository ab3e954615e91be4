"""A dry run: PyTorch on the CPU, and in the place of the kernels the float64 reference."""

import pytest

torch = pytest.importorskip("torch", reason="the GPU benchmark runs in PyTorch")

from benchmarks.gpu import conv, reference, roi  # noqa: E402
from benchmarks.gpu.cases import BFLOAT16, BOTH, CONV_PRECISIONS, FLOAT32, FORWARD, TINY  # noqa: E402
from benchmarks.gpu.contenders import Contender, Contest  # noqa: E402
from benchmarks.gpu.device import EmulatedDevice  # noqa: E402
from benchmarks.gpu.findings import CONV, DENSE, MODULATED_POOLING, OURS, POOLING, Findings, contender  # noqa: E402
from benchmarks.gpu.floors import Rates  # noqa: E402
from benchmarks.gpu.measurements import measure_everything  # noqa: E402

RATES = Rates(1e9, {precision.name: 1e9 for precision in CONV_PRECISIONS})


class ReferenceKernels:
    """Rounds the reference's results; `spoil(name, tensor)` may change what is written."""

    def __init__(self, spoil=lambda name, tensor: tensor):
        self._spoil = spoil

    def conv_forward(self, x, kernel, offset, mask, y, *, allow_tf32):
        y.copy_(self._spoil("y", reference.deform_conv(x, kernel, offset, mask, torch.zeros_like(y))[0]))

    def conv_workspace(self, x_shape, out_channels, dtype, allow_tf32):
        batch, height, width, channels = x_shape
        return 0 if dtype == torch.float32 else 4 * batch * height * width * channels

    def conv_backward(self, x, kernel, offset, mask, dy, gradients, workspace, *, allow_tf32):
        _, *results = reference.deform_conv(x, kernel, offset, mask, dy)
        for name, target, result in zip(("dx", "dkernel", "doffset", "dmask"), gradients, results, strict=True):
            target.copy_(self._spoil(name, result))

    def roi_forward(self, features, boxes, box_indices, levels, offset, mask, y, **geometry):
        inputs = (features, boxes, box_indices, offset, mask)
        y.copy_(reference.roi_pool(*inputs, torch.zeros_like(y), **geometry)[0])

    def roi_workspace(self, features, boxes):
        return 0

    def roi_backward(self, features, boxes, box_indices, levels, offset, mask, dy, gradients, workspace, **geometry):
        _, *results = reference.roi_pool(features, boxes, box_indices, offset, mask, dy, **geometry)
        for target, result in zip([g for g in gradients if g is not None], results, strict=True):
            target.copy_(result)


def conv_case(kernels):
    return conv.measure_case(TINY.conv[0], EmulatedDevice(), kernels, RATES, rounds=1)


def test_a_dry_run_measures_and_judges_everything():
    findings, saved = Findings(), []
    arguments = (EmulatedDevice(), ReferenceKernels(), TINY, 1, lambda topic, text: None)
    measure_everything(findings, *arguments, save=lambda: saved.append(len(findings.measurements)))
    assert not findings.wrong
    assert [(item.subject, item.group.work) for item in findings.measurements] == [
        (subject, work) for subject in (CONV, POOLING, MODULATED_POOLING) for work in (FORWARD, BOTH)
    ]
    assert saved == [2, 6, 6]
    for item in findings.measurements:
        assert {contender(OURS, precision) for precision in item.precisions} <= item.group.series.keys()
    assert {contender(DENSE, precision) for precision in CONV_PRECISIONS} <= findings.measurements[
        0
    ].group.series.keys()
    assert [(memory.precision, memory.per_image / memory.map_per_image) for memory in findings.memory] == [
        ("float32", 0),
        ("float16", 1),
    ]
    assert {goal.subject.split(",")[0] for goal in findings.goals()} >= {"forward", "backward"}


@pytest.mark.parametrize("spoiled", ["y", "dx", "dkernel", "doffset", "dmask"])
def test_a_wrong_value_is_reported_and_not_timed(spoiled):
    def spoil(name, tensor):
        if name == spoiled:
            tensor.flatten()[0] += 0.1 * tensor.abs().max()
        return tensor

    measurements, wrong = conv_case(ReferenceKernels(spoil))
    works = [FORWARD, BOTH] if spoiled == "y" else [BOTH]
    assert len(wrong) == len(works) * len(CONV_PRECISIONS)
    assert all("the largest error is 0.1 of the largest value" in text for text in wrong)
    for item in measurements:
        right = [name for name in item.group.series if name.startswith(OURS)]
        assert (len(right) == 0) is (item.group.work in works)


def test_what_is_not_written_is_wrong():
    kernels = ReferenceKernels()
    kernels.conv_forward = lambda *arguments, **options: None
    _, wrong = conv_case(kernels)
    assert len(wrong) == 2 * len(CONV_PRECISIONS) and "the largest error is inf" in wrong[0]


def test_ours_may_not_fail():
    def fail(*arguments, **options):
        raise RuntimeError("no kernel image is available")

    kernels = ReferenceKernels()
    kernels.conv_forward = fail
    with pytest.raises(RuntimeError, match="no kernel image"):
        conv_case(kernels)


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

    contest = Contest(FORWARD, "a case")
    contest.admit(Contender("theirs", BFLOAT16, {FORWARD: fail}, list), [])
    assert contest.absent == {"theirs, bfloat16": word} and not contest.wrong


def test_others_have_to_be_right_in_float32_and_may_be_less_so_in_16_bits():
    contest = Contest(FORWARD, "a case")
    for precision in (FLOAT32, BFLOAT16):
        run = {FORWARD: lambda: [torch.full((2,), 1.5)]}
        contest.admit(Contender("theirs", precision, run, list), [torch.ones(2, dtype=torch.float64)])
    assert contest.absent == {"theirs, float32": "error 5.0e-01"} and not contest.wrong
    assert [item.name for item in contest.admitted] == ["theirs, bfloat16"]


def test_positions_of_the_data_are_exact_in_float32_and_never_whole():
    data = conv.make_data(TINY.conv[0], "cpu")
    rows = data.offset.double() + 100
    assert torch.equal(rows, rows.float().double())
    assert not torch.any(rows == rows.round())


def test_bins_of_the_data_are_exact_in_float32():
    case = TINY.roi[0]
    boxes = roi.make_data(case, "cpu").boxes / case.stride - 0.5
    bins = (boxes[:, 2:] - boxes[:, :2]) / 7
    assert torch.equal(bins * 8, (bins * 8).round()) and bins.min() > 0
    assert not torch.any(boxes[:, :2] * 1024 == (boxes[:, :2] * 1024).round())

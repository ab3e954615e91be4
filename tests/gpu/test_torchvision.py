"""The kernels against torchvision's operators, where PyTorch is installed."""

import numpy as np
import pytest
from c_api import ConvGeometry, RoiGeometry
from problems import check_within, conv_problem, roi_problem

torch = pytest.importorskip("torch")
ops = pytest.importorskip("torchvision.ops")


@pytest.fixture
def tensor(gpu):
    """Makes a float64 tensor on the device that is compared."""
    device = "cpu" if gpu.is_emulated else "cuda"
    return lambda values: torch.tensor(values, dtype=torch.float64, device=device, requires_grad=True)


def array(value):
    return value.detach().cpu().numpy()


@pytest.mark.parametrize(
    "shape",
    [
        ConvGeometry((2, 10, 12, 64), (3, 3, 64, 48)),
        ConvGeometry((2, 10, 12, 32), (3, 3, 16, 32), (2, 2), deformable_groups=4),
        ConvGeometry((2, 10, 12, 6), (3, 3, 6, 5), dilation=(2, 2), padding=((2, 2), (2, 2))),
    ],
    ids=["plain", "groups", "odd"],
)
@pytest.mark.parametrize("modulated", [True, False])
@pytest.mark.parametrize("storage, bound", [("float64", 1e-9), ("float32", 1e-2)])
def test_deform_conv_equals_torchvisions(gpu, rng, tensor, shape, modulated, storage, bound):
    problem = conv_problem(rng, "float32", shape, modulated=modulated)
    # At exactly -1, and where whole pixels meet the border, the rules differ; so nothing is at a whole position.
    offset = problem.inputs.offset + 1 / 512
    problem.inputs, problem.storage = problem.inputs._replace(offset=offset), storage
    batch, height, width = shape.y_shape[:3]

    x, kernel, dy = (tensor(a) for a in (problem.inputs.x, problem.inputs.kernel, problem.dy))
    flat_offset = tensor(offset.reshape(batch, height, width, -1))
    mask = None if not modulated else tensor(problem.inputs.mask.reshape(batch, height, width, -1))
    y = ops.deform_conv2d(
        *(x.permute(0, 3, 1, 2), flat_offset.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), None),
        *(shape.strides, [p[0] for p in shape.padding], shape.dilation),
        None if mask is None else mask.permute(0, 3, 1, 2),
    ).permute(0, 2, 3, 1)
    y.backward(dy)

    inputs, stored_dy = problem.stored()
    check_within("y", gpu.conv_forward(storage, shape, inputs, allow_tf32=False), array(y), np.array(bound))
    gradients = gpu.conv_backward(storage, shape, inputs, stored_dy, allow_tf32=False)
    for name, source in {"x": x, "kernel": kernel, "offset": flat_offset, "mask": mask}.items():
        if source is not None:
            received = getattr(gradients, name)
            check_within(f"d{name}", received, array(source.grad).reshape(received.shape), np.array(bound))


@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("storage, bound", [("float64", 1e-9), ("float32", 1e-3)])
def test_roi_pooling_equals_torchvisions_roi_align(gpu, rng, tensor, sampling_ratio, storage, bound):
    shape = RoiGeometry(2, 24, 12, ((25, 42),), (1 / 16,), (7, 7), sampling_ratio)
    problem = roi_problem(rng, "float32", shape, deformed=False, modulated=False)
    problem.storage = storage
    # torchvision takes one sample at least where their number follows the size; boxes of no area have none here.
    problem.inputs.boxes[:, 2:] = np.maximum(problem.inputs.boxes[:, 2:], problem.inputs.boxes[:, :2] + 1)
    inputs, dy = problem.stored()

    feature = tensor(problem.inputs.features[0])
    rois = np.column_stack([problem.inputs.box_indices, problem.inputs.boxes[:, [1, 0, 3, 2]]])
    pooled = ops.roi_align(
        feature.permute(0, 3, 1, 2), tensor(rois).detach(), (7, 7), 1 / 16, sampling_ratio, aligned=True
    ).permute(0, 2, 3, 1)
    pooled.backward(tensor(problem.dy))

    check_within("y", gpu.roi_forward(storage, shape, inputs), array(pooled), np.array(bound))
    gradients = gpu.roi_backward(storage, shape, inputs, dy)
    check_within("dfeatures", gradients.features[0], array(feature.grad), np.array(bound))

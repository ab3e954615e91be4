"""The reference against values that can be had otherwise."""

import math

import pytest

torch = pytest.importorskip("torch", reason="the GPU benchmark runs in PyTorch")

from benchmarks.agreement import largest_error  # noqa: E402
from benchmarks.cases import ConvCase  # noqa: E402
from benchmarks.gpu import conv, reference  # noqa: E402


@pytest.fixture
def ramp():
    """A map (1, 20, 12, 2) whose first channel is the row and whose second is the column."""
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(12.0), indexing="ij")
    return torch.stack([rows, columns], dim=-1)[None]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_without_deformation_it_is_the_dense_convolution_with_its_gradients(groups):
    data = conv.make_data(ConvCase(4, 5, 7, 2, groups), "cpu")
    y, dx, dkernel, _, _ = reference.deform_conv(
        data.x, data.kernel, torch.zeros_like(data.offset), torch.ones_like(data.mask), data.dy
    )
    x, kernel = data.x.double().requires_grad_(), data.kernel.double().requires_grad_()
    dense = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), padding=1, groups=groups)
    dense = dense.permute(0, 2, 3, 1)
    dense.backward(data.dy.double())
    assert largest_error([y, dx, dkernel], [dense.detach(), x.grad, kernel.grad]) < 1e-12


def test_an_offset_moves_where_the_map_is_sampled_and_the_mask_scales_it(ramp):
    kernel = torch.zeros(3, 3, 2, 2)
    kernel[1, 1] = torch.eye(2)
    offset, mask = torch.zeros(1, 20, 12, 18), torch.ones(1, 20, 12, 9)
    offset[0, 4, 5, 8:10] = torch.tensor([0.25, -1.5])
    mask[0, 4, 5, 4] = 0.5
    dy = torch.zeros(1, 20, 12, 2)
    dy[0, 4, 5] = 1
    y, _, _, doffset, dmask = reference.deform_conv(ramp, kernel, offset, mask, dy)
    assert y[0, 4, 5].tolist() == [0.5 * 4.25, 0.5 * 3.5]
    assert doffset[0, 4, 5, 8:10].tolist() == [0.5, 0.5]
    assert dmask[0, 4, 5, 4] == 4.25 + 3.5


def test_each_deformable_group_moves_its_own_channels():
    data = conv.make_data(ConvCase(4, 5, 7, 1, deformable_groups=2), "cpu")
    halves = [
        reference.deform_conv(
            data.x[..., channels], data.kernel[:, :, channels], data.offset[..., taps], data.mask[..., bins], data.dy
        )
        for channels, taps, bins in (
            (slice(0, 2), slice(0, 18), slice(0, 9)),
            (slice(2, 4), slice(18, 36), slice(9, 18)),
        )
    ]
    y, dx, dkernel, doffset, dmask = reference.deform_conv(*data)
    # The halves' channels are summed over, and everything else is side by side.
    assert largest_error([y], [halves[0][0] + halves[1][0]]) < 1e-12
    for index, whole, axis in ((1, dx, 3), (2, dkernel, 2), (3, doffset, 3), (4, dmask, 3)):
        assert largest_error([whole], [torch.cat([half[index] for half in halves], dim=axis)]) < 1e-12


def test_far_outside_there_is_nothing(ramp):
    offset = torch.full((1, 20, 12, 18), 100.0)
    kernel, mask, dy = torch.ones(3, 3, 2, 2), torch.ones(1, 20, 12, 9), torch.ones(1, 20, 12, 2)
    for result in reference.deform_conv(ramp, kernel, offset, mask, dy):
        assert not result.any()


def test_pooling_a_ramp_gives_the_centre_of_each_bin_moved_and_scaled(ramp):
    boxes = torch.tensor([[4.0, 2.0, 18.0, 9.0]])
    offset, mask = torch.zeros(1, 7, 7, 2), torch.ones(1, 7, 7)
    offset[0, 2, 3], mask[0, 2, 3] = torch.tensor([0.25, -0.5]), 0.5
    dy = torch.ones(1, 7, 7, 2)
    box = (ramp, boxes, torch.tensor([0]))
    y, _, doffset, dmask = reference.roi_pool(*box, offset, mask, dy, spatial_scale=1.0, gamma=0.125)
    # Bins of 2 x 1 pixels; the box begins half a pixel before the centre of pixel (4, 2).
    assert y[0, 0, 0].tolist() == [3.5 + 1, 1.5 + 0.5]
    moved = [3.5 + 5 + 0.25 * 0.125 * 14, 1.5 + 3.5 - 0.5 * 0.125 * 7]
    assert y[0, 2, 3].tolist() == [0.5 * position for position in moved]
    assert doffset[0, 2, 3].tolist() == [0.5 * 0.125 * 14, 0.5 * 0.125 * 7]
    assert dmask[0, 2, 3] == sum(moved)


def test_pooling_clamps_at_the_edge_and_gives_nothing_more_than_a_pixel_outside(ramp):
    boxes = torch.tensor([[-0.25, -0.25, -0.25, -0.25], [-9.0, 0.0, -2.0, 7.0]])
    dy = torch.ones(2, 7, 7, 2)
    y, *_ = reference.roi_pool(ramp + 1, boxes, torch.zeros(2), None, None, dy, spatial_scale=1.0, gamma=0.125)
    assert (y[0] == 1).all()
    assert not y[1].any()


def test_rois_take_their_own_image():
    features = torch.arange(3.0)[:, None, None, None].expand(3, 8, 8, 1)
    boxes = torch.tensor([[1.0, 1.0, 6.0, 6.0]] * 3)
    dy = torch.ones(3, 7, 7, 1)
    y, dfeatures = reference.roi_pool(
        features, boxes, torch.tensor([2, 0, 2]), None, None, dy, spatial_scale=1.0, gamma=0.125
    )
    assert y.amax(dim=(1, 2, 3)).tolist() == y.amin(dim=(1, 2, 3)).tolist() == [2, 0, 2]
    assert dfeatures.sum(dim=(1, 2, 3)).tolist() == pytest.approx([49, 0, 98])


def test_errors_are_relative_to_the_largest_value_and_infinite_where_there_is_no_number():
    expected = [torch.tensor([1.0, -4.0], dtype=torch.float64), torch.tensor([10.0], dtype=torch.float64)]
    assert largest_error([torch.tensor([1.0, -4.4]), torch.tensor([10.0])], expected) == pytest.approx(0.1)
    assert largest_error([torch.tensor([math.nan, -4.0]), torch.tensor([10.0])], expected) == math.inf
    with pytest.raises(ValueError, match=r"\(1,\) instead of \(2,\)"):
        largest_error([torch.tensor([1.0]), torch.tensor([10.0])], expected)

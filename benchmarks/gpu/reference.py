"""Both operators in a few lines of float64 PyTorch, differentiated by it: what every contender is compared with.

Gradients hold wherever no sample lies at a whole number, where bilinear interpolation has none; the benchmark's data
keeps away from there.
"""

import torch
from torch import Tensor

from benchmarks.cases import KERNEL_SIZE, TAPS
from benchmarks.gpu.cases import BINS, SAMPLES

# With 512 channels their samples take 200 MB, of which differentiation keeps several copies.
_ROIS_AT_ONCE = 256


def deform_conv(x: Tensor, kernel: Tensor, offset: Tensor, mask: Tensor, dy: Tensor) -> list[Tensor]:
    """Output and gradients of x, kernel, offset and mask of sum(y * dy), in float64; image by image to save memory.

    Shapes as in `tf_dcnv2.ops.deform_conv2d` with G deformable groups: (B, H, W, C), (3, 3, C / groups, O),
    (B, H, W, 18 G), (B, H, W, 9 G), (B, H, W, O); strides 1, "same" padding.
    """
    kernel = kernel.double().requires_grad_()
    images = []
    for image in zip(x, offset, mask, dy, strict=True):
        *inputs, dy_image = (tensor.double() for tensor in image)
        for tensor in inputs:
            tensor.requires_grad_()
        y = _conv_image(inputs[0], kernel, inputs[1], inputs[2])
        y.backward(dy_image)
        images.append([y.detach(), *(tensor.grad for tensor in inputs)])
    y, dx, doffset, dmask = (torch.stack(parts) for parts in zip(*images, strict=True))
    return [y, dx, kernel.grad, doffset, dmask]


def roi_pool(
    features: Tensor,
    boxes: Tensor,
    box_indices: Tensor,
    offset: Tensor | None,
    mask: Tensor | None,
    dy: Tensor,
    *,
    spatial_scale: float,
    gamma: float,
) -> list[Tensor]:
    """Output and gradients of the features, and of offset and mask where they are given, in float64.

    Shapes as in `tf_dcnv2.ops.deform_roi_pool`: (B, H, W, C), (N, 4), (N,), (N, 7, 7, 2), (N, 7, 7), (N, 7, 7, C); the
    "aligned" convention.
    """
    features = features.double().requires_grad_()
    deformation = [tensor.double().requires_grad_() for tensor in (offset, mask) if tensor is not None]
    outputs = []
    for start in range(0, len(boxes), _ROIS_AT_ONCE):
        part = slice(start, start + _ROIS_AT_ONCE)
        moved = [tensor[part] for tensor in deformation]
        y = _pool(features, boxes[part].double() * spatial_scale - 0.5, box_indices[part], moved, gamma)
        y.backward(dy[part].double())
        outputs.append(y.detach())
    return [torch.cat(outputs), features.grad, *(tensor.grad for tensor in deformation)]


def _conv_image(x: Tensor, kernel: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
    height, width, _ = x.shape
    tap = torch.arange(TAPS, device=x.device)
    row = torch.arange(height, device=x.device)[:, None, None] + tap // KERNEL_SIZE - 1
    column = torch.arange(width, device=x.device)[:, None] + tap % KERNEL_SIZE - 1
    offset = offset.reshape(height, width, -1, TAPS, 2)
    mask = mask.reshape(height, width, -1, TAPS)
    parts = x.chunk(offset.shape[2], dim=-1)
    columns = [
        _bilinear(part, row + offset[:, :, index, :, 0], column + offset[:, :, index, :, 1])
        * mask[:, :, index, :, None]
        for index, part in enumerate(parts)
    ]
    # Pixels, taps, channels; those of both channels and outputs by group.
    columns = torch.cat(columns, dim=-1).reshape(height * width, TAPS, -1, kernel.shape[2])
    kernel = kernel.reshape(TAPS, kernel.shape[2], columns.shape[2], -1)
    return torch.einsum("ptgc,tcgo->pgo", columns, kernel).reshape(height, width, -1)


def _pool(features: Tensor, boxes: Tensor, box_indices: Tensor, moved: list[Tensor], gamma: float) -> Tensor:
    batch, height, width, channels = features.shape
    start, size = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    steps = (torch.arange(BINS * SAMPLES, device=boxes.device).double() + 0.5) / (BINS * SAMPLES)
    # (N, 14, axis): all samples of all bins along either axis; then (N, bin row, sample, bin column, sample).
    positions = start[:, None] + steps[:, None] * size[:, None]
    grid = (len(boxes), BINS, SAMPLES, BINS, SAMPLES)
    rows = positions[..., 0].reshape(-1, BINS, SAMPLES, 1, 1).expand(grid)
    columns = positions[..., 1].reshape(-1, 1, 1, BINS, SAMPLES).expand(grid)
    if moved:
        shift = gamma * moved[0] * size[:, None, None]
        rows = rows + shift[:, :, None, :, None, 0]
        columns = columns + shift[:, :, None, :, None, 1]
    inside = (rows >= -1) & (rows <= height) & (columns >= -1) & (columns <= width)
    # Images below each other, so that one index finds a pixel of any.
    first_row = (box_indices.long() * height)[:, None, None, None, None]
    samples = _bilinear(
        features.reshape(batch * height, width, channels),
        rows.clamp(0, height - 1) + first_row,
        columns.clamp(0, width - 1),
    )
    y = (samples * inside[..., None]).mean(dim=(2, 4))
    return y * moved[1][..., None] if moved else y


def _bilinear(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Samples of x (H, W, C), zero outside: a corner counts if it is inside."""
    height, width, channels = x.shape
    pixels = x.reshape(height * width, channels)
    top, left = row.detach().floor(), column.detach().floor()
    value = 0
    for corner_row, row_weight in ((top, top + 1 - row), (top + 1, row - top)):
        for corner_column, column_weight in ((left, left + 1 - column), (left + 1, column - left)):
            inside = (corner_row >= 0) & (corner_row < height) & (corner_column >= 0) & (corner_column < width)
            index = corner_row.clamp(0, height - 1) * width + corner_column.clamp(0, width - 1)
            corner = pixels.index_select(0, index.long().flatten()).reshape(*index.shape, channels)
            value = value + (row_weight * column_weight * inside)[..., None] * corner
    return value

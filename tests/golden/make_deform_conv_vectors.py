"""Computes the results in `deform_conv_*.npz` again with mmcv's CPU kernels in float64; see README.md.

python make_deform_conv_vectors.py OUTPUT_DIRECTORY      # needs torch and mmcv 2.1 with its ops

The inputs, random numbers, are those of the files in this folder. The output is a copy of the files with results of
mmcv's, and the largest difference from the results here is printed for each.
"""

import sys
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent


def channels_first(array: np.ndarray) -> torch.Tensor:
    """Activations as `[B, C, H, W]`."""
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    """Activations as `[B, H, W, C]`."""
    return np.ascontiguousarray(tensor.detach().numpy().transpose(0, 2, 3, 1))


def compute(arrays: dict[str, np.ndarray], deform_conv) -> dict[str, np.ndarray]:
    """Values and gradients of `deform_conv`, which is called as mmcv's `modulated_deform_conv2d` is."""
    x, offset, mask = (channels_first(arrays[name]).requires_grad_() for name in ("x", "offset", "mask"))
    weight = torch.from_numpy(np.ascontiguousarray(arrays["kernel"].transpose(3, 2, 0, 1))).requires_grad_()
    bias = torch.from_numpy(arrays["bias"]).requires_grad_()
    geometry = [tuple(map(int, arrays[name])) for name in ("strides", "padding", "dilation_rate")]
    y = deform_conv(x, offset, mask, weight, bias, *geometry, int(arrays["groups"]), int(arrays["deformable_groups"]))
    y.backward(channels_first(arrays["dy"]))
    return {
        "y": channels_last(y),
        "dx": channels_last(x.grad),
        "dkernel": np.ascontiguousarray(weight.grad.numpy().transpose(2, 3, 1, 0)),
        "dbias": bias.grad.numpy(),
        "doffset": channels_last(offset.grad),
        "dmask": channels_last(mask.grad),
    }


def main() -> None:
    """Writes every file anew."""
    from mmcv.ops import modulated_deform_conv2d

    output = Path(sys.argv[1])
    output.mkdir(parents=True, exist_ok=True)
    for path in sorted(GOLDEN.glob("deform_conv_*.npz")):
        with np.load(path) as stored:
            arrays = dict(stored)
        results = compute(arrays, modulated_deform_conv2d)
        difference = max(np.abs(results[name] - arrays[name]).max() for name in results)
        print(f"{path.stem}: largest difference {difference:.1e}")
        np.savez_compressed(output / path.name, **{**arrays, **results})


if __name__ == "__main__":
    main()

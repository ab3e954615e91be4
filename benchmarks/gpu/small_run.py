"""Runs all kernels on small problems, for programs that watch memory accesses: `python -m benchmarks.gpu.small_run`."""

import torch

from benchmarks.gpu import conv, roi
from benchmarks.gpu.cases import BOTH, CONV_PRECISIONS, ROI_PRECISIONS, ConvCase, RoICase
from benchmarks.gpu.library import Library

# Channels that 16-byte loads fit and that they do not, more than one tile and less; rows of pixels that fill no tile.
_CONV = (ConvCase(72, 9, 13, 2), ConvCase(5, 4, 7, 2))
_ROI = (RoICase(72, 9, 13, 16, 2, 3), RoICase(5, 4, 7, 16, 2, 3))


def main() -> None:
    for deterministic in (False, True):
        kernels = Library("cuda", deterministic)
        for case in _CONV:
            data = conv.make_data(case, "cuda")
            for precision in CONV_PRECISIONS:
                conv.ours(data.stored(precision), precision, kernels).runs[BOTH]()
        for case in _ROI:
            data = roi.make_data(case, "cuda")
            for precision in ROI_PRECISIONS:
                for subject in roi.SUBJECTS:
                    roi.ours(subject, data.stored(precision), precision, kernels, roi.geometry(case)).runs[BOTH]()
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()

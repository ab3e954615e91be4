"""Measurements of the ops and kernels, for those who work on them; no part of the installed package.

    python -m benchmarks.cpu     the ops in TensorFlow, against dense convolution and other engines: docs/performance.md
    python -m benchmarks.gpu     the CUDA kernels from PyTorch: docs/performance-gpu.md

The modules beside this one are what both share. They need NumPy at most: `benchmarks.gpu` runs where TensorFlow is
missing.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

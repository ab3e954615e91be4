"""The CUDA kernels measured from PyTorch, on machines that need no TensorFlow; see docs/performance-gpu.md.

    bash benchmarks/gpu/fifteen_minutes.sh     everything within ten minutes: build, tests, measurements
    python -m benchmarks.gpu                   the measurements alone

Nothing here imports `tf_dcnv2`, which would import TensorFlow: it may be missing or broken, and would take memory of
the GPU where it is neither.
"""

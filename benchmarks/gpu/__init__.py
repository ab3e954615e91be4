"""The CUDA kernels measured from PyTorch, on machines that need no TensorFlow; see docs/performance-gpu.md.

    bash benchmarks/gpu/fifteen_minutes.sh     everything within ten minutes: build, tests, measurements
    python -m benchmarks.gpu                   the measurements alone

Statistics, goals and tables are those of `tf_dcnv2.benchmark`, which needs no TensorFlow; `import tf_dcnv2` imports it
all the same, for the ops and the layers. So a package without contents stands in for `tf_dcnv2` here: modules below it
are found as usual, and TensorFlow may be missing or broken, and takes no memory of the GPU where it is neither.
"""

import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

if "tf_dcnv2" not in sys.modules:
    _package = types.ModuleType("tf_dcnv2")
    _package.__path__ = [str(ROOT / "tf_dcnv2")]
    sys.modules["tf_dcnv2"] = _package

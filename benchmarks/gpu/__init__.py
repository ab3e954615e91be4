"""The CUDA kernels measured from PyTorch, on machines that need no TensorFlow; see docs/performance.md.

    python -m benchmarks.gpu

Statistics, goals and tables are those of `tf_dcnv2.benchmark`. `import tf_dcnv2` imports TensorFlow, for the ops and
the layers; where there is none, this package stands in for that one, so that modules without TensorFlow can be had.
"""

import importlib.util
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

if "tf_dcnv2" not in sys.modules and importlib.util.find_spec("tensorflow") is None:
    _package = types.ModuleType("tf_dcnv2")
    _package.__path__ = [str(ROOT / "tf_dcnv2")]
    sys.modules["tf_dcnv2"] = _package

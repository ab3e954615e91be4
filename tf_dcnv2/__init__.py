"""Deformable ConvNets v2 (Zhu, Hu, Lin, Dai; CVPR 2019; arXiv:1811.11168) for TensorFlow and Keras 3.

    tf_dcnv2.ops           modulated deformable convolution and RoI pooling as functions on tensors
    tf_dcnv2.layers        the same as Keras layers
    tf_dcnv2.optimizers    learning rates of their own for the offset branches, with any Keras optimizer
    tf_dcnv2.models        backbones, Faster R-CNN, R-CNN feature mimicking
    tf_dcnv2.data          COCO-style annotations to TFRecords to `tf.data`; a synthetic data set
    tf_dcnv2.training      optimizers, callbacks, the training run behind `tf-dcnv2 train`
    tf_dcnv2.evaluation    COCO average precision
    tf_dcnv2.export        SavedModels for TensorFlow Serving
    tf_dcnv2.visualization pictures of detections

`import tf_dcnv2` loads `ops`, `layers` and `optimizers`, which need nothing but TensorFlow, Keras and NumPy. That
registers the custom ops and their gradients with TensorFlow, for `tf.saved_model.load`, and layers and optimizers with
Keras, for `keras.models.load_model`. The other modules are imported when first used; they need the extra requirements
of `pip install 'tf-dcnv2[detection]'`.
"""

import importlib
import sys
from pathlib import Path

from tf_dcnv2._keras_backend import require_tensorflow_backend

__version__ = "0.1.0"

_SUBMODULES = (
    *("ops", "layers", "optimizers", "models", "data"),
    *("training", "evaluation", "export", "visualization"),
)

__all__ = ["__version__", *_SUBMODULES]


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})


# The command `tf-dcnv2` answers `--help` and mistakes in its arguments at once: TensorFlow, which takes seconds to
# import, is left to the sub-command that needs it.
if Path(sys.argv[0] if sys.argv else "").name != "tf-dcnv2":
    require_tensorflow_backend()
    for _name in ("ops", "layers", "optimizers"):
        importlib.import_module(f"{__name__}.{_name}")
    del _name

"""Deformable ConvNets v2 (Zhu, Hu, Lin, Dai; CVPR 2019; arXiv:1811.11168) for TensorFlow and Keras 3.

    tf_dcnv2.ops           modulated deformable convolution and RoI pooling as functions on tensors
    tf_dcnv2.layers        the same as Keras layers
    tf_dcnv2.optimizers    learning rates of their own for the offset branches, with any Keras optimizer
    tf_dcnv2.models        backbones, Faster R-CNN, R-CNN feature mimicking
    tf_dcnv2.data          COCO-style annotations to TFRecords to `tf.data`; a synthetic data set
    tf_dcnv2.training      optimizers, callbacks, the training run behind `tf-dcnv2 train`
    tf_dcnv2.evaluation    COCO average precision
    tf_dcnv2.export        SavedModels for TensorFlow Serving
    tf_dcnv2.analysis      what a node of a network looks at, and where its layers sample
    tf_dcnv2.visualization pictures of detections

`import tf_dcnv2` loads `ops`, `layers` and `optimizers`, which need nothing but TensorFlow, Keras and NumPy. That
registers the custom ops and their gradients with TensorFlow, for `tf.saved_model.load`, and layers and optimizers with
Keras, for `keras.models.load_model`. The other modules are imported when first used; they need the extra requirements
of `pip install 'tf-dcnv2[detection]'`.

The command line `tf-dcnv2` is another package, `tf_dcnv2_cli`, so that it can answer `--help` without this one.
"""

import importlib
from types import ModuleType

from tf_dcnv2._keras_backend import require_tensorflow_backend

__version__ = "0.2.0"

require_tensorflow_backend()  # before anything else imports Keras

from tf_dcnv2 import layers, ops, optimizers  # noqa: E402

_IMPORTED_WHEN_USED = ("models", "data", "training", "evaluation", "export", "analysis", "visualization")

__all__ = ["__version__", "layers", "ops", "optimizers", *_IMPORTED_WHEN_USED]


def __getattr__(name: str) -> ModuleType:
    if name in _IMPORTED_WHEN_USED:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_IMPORTED_WHEN_USED})

"""The paper's operators as functions on tensors, each as a custom op and in plain TensorFlow.

Importing this module registers the custom ops, where they are available, and their gradients with TensorFlow.
"""

import tf_dcnv2.ops.second_derivatives  # noqa: F401, registers them
from tf_dcnv2.ops import native
from tf_dcnv2.ops.deform_conv2d import deform_conv2d
from tf_dcnv2.ops.deform_roi_pool import deform_roi_pool
from tf_dcnv2.ops.implementation import portable_ops

__all__ = ["deform_conv2d", "deform_roi_pool", "portable_ops"]

# Not only when an operator is called first: a SavedModel with custom ops loads only where TensorFlow knows them.
native.is_available()

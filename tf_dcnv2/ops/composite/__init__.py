"""The operators in plain TensorFlow: portable, XLA-compilable, the same values and gradients as the native ones.

The functions here take arguments that `tf_dcnv2.ops` has already checked and normalised; call those instead.
"""

from tf_dcnv2.ops.composite.deform_conv2d import deform_conv2d
from tf_dcnv2.ops.composite.deform_roi_pool import deform_roi_pool

__all__ = ["deform_conv2d", "deform_roi_pool"]

"""The operators in plain TensorFlow: portable, XLA-compilable, the same values and gradients as the native ones.

The functions here take arguments that `tf_dcnv2.ops` has already checked and normalised; call those instead.
"""

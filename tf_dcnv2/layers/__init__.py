"""Keras layers that sample where they have learned to look.

Importing this module registers the layers with Keras, for `keras.models.load_model`.
"""

from tf_dcnv2.layers._layer_choice import spatial_convolutions
from tf_dcnv2.layers._make_deformable import make_deformable
from tf_dcnv2.layers._observation import observe_sampling
from tf_dcnv2.layers.deformable_conv2d import DeformableConv2D
from tf_dcnv2.layers.deformable_roi_pooling import DeformableRoIPooling
from tf_dcnv2.layers.grouped_conv2d import GroupedConv2D
from tf_dcnv2.layers.modulated_deformable_conv2d import ModulatedDeformableConv2D
from tf_dcnv2.layers.modulated_deformable_roi_pooling import ModulatedDeformableRoIPooling
from tf_dcnv2.layers.roi_align import RoIAlign

__all__ = [
    "DeformableConv2D",
    "DeformableRoIPooling",
    "GroupedConv2D",
    "ModulatedDeformableConv2D",
    "ModulatedDeformableRoIPooling",
    "RoIAlign",
    "make_deformable",
    "observe_sampling",
    "spatial_convolutions",
]

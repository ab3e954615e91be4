"""Spatial support: what a node of a network looks at, and where its layers sample (paper sec. 3 and appendix).

Everything is an array in pixels of the image that the network sees; for a detector `network_image` makes that one.
"""

from tf_dcnv2.analysis.images import network_image, node_at, node_position
from tf_dcnv2.analysis.locations import (
    Bins,
    LayerSamples,
    effective_bin_locations,
    effective_sampling_locations,
    sampling_locations,
)
from tf_dcnv2.analysis.measures import receptive_field_share, saliency_area_ratio, strength_share
from tf_dcnv2.analysis.nodes import ConvNode, RoINode
from tf_dcnv2.analysis.offset_summary import OffsetSummary, summarize_offsets
from tf_dcnv2.analysis.offsets import (
    LayerOffsets,
    OffsetStatistics,
    offset_statistics,
    predicted_offsets,
    statistics_of,
)
from tf_dcnv2.analysis.receptive_field import effective_receptive_field
from tf_dcnv2.analysis.saliency import SaliencyRegion, error_bounded_saliency

__all__ = [
    "Bins",
    "ConvNode",
    "LayerOffsets",
    "LayerSamples",
    "OffsetStatistics",
    "OffsetSummary",
    "RoINode",
    "SaliencyRegion",
    "effective_bin_locations",
    "effective_receptive_field",
    "effective_sampling_locations",
    "error_bounded_saliency",
    "network_image",
    "node_at",
    "node_position",
    "offset_statistics",
    "predicted_offsets",
    "receptive_field_share",
    "saliency_area_ratio",
    "sampling_locations",
    "statistics_of",
    "strength_share",
    "summarize_offsets",
]

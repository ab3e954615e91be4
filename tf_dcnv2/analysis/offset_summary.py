"""The offsets of a whole network in a few numbers, and in words where they seem to diverge."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tf_dcnv2.analysis.offsets import LayerOffsets, OffsetStatistics, statistics_of

# A layer whose samples reach across half of its map, or miss it that often, sees little of what lies below it.
_LONGEST_SHARE = 0.5
_MOST_OUTSIDE = 0.5


class OffsetSummary(NamedTuple):
    """The offsets of all layers on one image.

    Attributes:
        mean: mean length in pixels of the image, over all layers; 0 where there are none.
        p99: 99th percentile of the lengths in pixels, of the layer where it is largest.
        outside: share of the samples of a convolution that lie beyond its input, where they contribute zero, of the
            layer where it is largest. Taps in the padding of a regular convolution count too.
        modulation: mean modulation over all layers that have it, NaN if none has.
        layers: the numbers of each layer.
        warnings: the name of each convolution that seems to diverge -> a sentence for the user.
    """

    mean: float
    p99: float
    outside: float
    modulation: float
    layers: list[OffsetStatistics]
    warnings: dict[str, str]


def summarize_offsets(layers: Sequence[LayerOffsets]) -> OffsetSummary:
    """Sums up what `predicted_offsets` returned.

    Example:
        >>> summary = summarize_offsets(predicted_offsets(detector, image))
        >>> print(f"{summary.mean:.1f} px", *summary.warnings.values())
    """
    statistics = [statistics_of(layer) for layer in layers]
    in_pixels = [float(np.mean(layer.pixels)) for layer in layers]
    means = [pixels * one.mean for pixels, one in zip(in_pixels, statistics, strict=True)]
    modulation = [one.modulation for one in statistics if one.modulation is not None]
    return OffsetSummary(
        mean=float(np.mean(means)) if means else 0.0,
        p99=max((pixels * one.p99 for pixels, one in zip(in_pixels, statistics, strict=True)), default=0.0),
        outside=max((one.outside for one in statistics if one.outside is not None), default=0.0),
        modulation=float(np.mean(modulation)) if modulation else math.nan,
        layers=statistics,
        warnings={
            layer.layer: _warning(layer, one)
            for layer, one in zip(layers, statistics, strict=True)
            if _seems_to_diverge(layer, one)
        },
    )


def _seems_to_diverge(layer: LayerOffsets, statistics: OffsetStatistics) -> bool:
    if statistics.outside is None:
        return False
    return statistics.p99 > _LONGEST_SHARE * max(layer.offsets.shape[:2]) or statistics.outside > _MOST_OUTSIDE


def _warning(layer: LayerOffsets, statistics: OffsetStatistics) -> str:
    return (
        f"The offsets of {layer.layer} may be diverging: 1 % of them are longer than {statistics.p99:.1f} cells, on a "
        f"map of {layer.offsets.shape[0]} x {layer.offsets.shape[1]}, and {100 * (statistics.outside or 0):.0f} % of "
        "the samples lie beyond it. A lower learning rate or offset_learning_rate_multiplier, offset_clip, or a bound "
        "of the gradient's norm may help."
    )

"""How much of a node's spatial support lies on an object, in numbers."""

from collections.abc import Iterable

import numpy as np

from tf_dcnv2.analysis.locations import Bins, LayerSamples
from tf_dcnv2.analysis.saliency import SaliencyRegion

Box = tuple[float, float, float, float]


def receptive_field_share(field: np.ndarray, box: Box) -> float:
    """The share of an effective receptive field that lies inside a box, 0..1.

    Args:
        field: `(H, W)` of `effective_receptive_field`.
        box: `(y1, x1, y2, x2)` in pixels. A pixel counts as far as it lies inside.

    Example:
        >>> receptive_field_share(np.ones([10, 10]), (0.0, 0.0, 5.0, 10.0))
        0.5
    """
    y1, x1, y2, x2 = box
    rows, columns = _coverage(field.shape[0], y1, y2), _coverage(field.shape[1], x1, x2)
    return _share(float(rows @ field @ columns), float(field.sum()))


def strength_share(samples: Iterable[LayerSamples] | Bins, box: Box) -> float:
    """The share of the strengths of sampling locations, or of bins, that lies inside a box, 0..1.

    Args:
        samples: of `effective_sampling_locations` or `effective_bin_locations`.
        box: `(y1, x1, y2, x2)` in pixels.
    """
    inside = total = 0.0
    for one in [samples] if isinstance(samples, Bins) else samples:
        # Sampling locations count from the centre of the first pixel, bins and boxes from its edge.
        y, x = np.moveaxis(one.locations + (0.0 if isinstance(one, Bins) else 0.5), -1, 0)
        on_box = (y >= box[0]) & (y <= box[2]) & (x >= box[1]) & (x <= box[3])
        inside += float(one.strengths[on_box].sum())
        total += float(one.strengths.sum())
    return _share(inside, total)


def saliency_area_ratio(region: SaliencyRegion, box: Box) -> float:
    """The area of a saliency region, in areas of a box `(y1, x1, y2, x2)`."""
    return float(region.mask.sum()) / ((box[2] - box[0]) * (box[3] - box[1]))


def _coverage(length: int, low: float, high: float) -> np.ndarray:
    """How much of each of `length` pixels lies between two edges, 0..1."""
    edges = np.clip(np.arange(length + 1), low, high)
    return np.diff(edges)


def _share(part: float, total: float) -> float:
    return part / total if total > 0 else 0.0

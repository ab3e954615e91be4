"""How well anchors fit the boxes of a data set, and which sizes and ratios would fit better.

An anchor is `size * size` pixels in area and `aspect_ratio` times as wide as it is high. Shapes: N boxes, K anchors.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

# A box lies anywhere between the centres of anchors: on average a quarter of the stride away, on either axis.
_MEAN_DISTANCE_STRIDES = 0.25
_ROUNDS = 50
_MOST_BOXES = 20_000  # that decide about sizes and ratios
_CANDIDATES = np.linspace(0, 1, 65)  # quantiles of a cluster that may become its centre


@dataclasses.dataclass(frozen=True)
class AnchorShapes:
    """The anchors of a region proposal network.

    Attributes:
        sizes: of each level, the sides in pixels of its square anchors.
        aspect_ratios: width / height, of every size.
        strides: pixels from anchor to anchor, of each level.
    """

    sizes: tuple[tuple[float, ...], ...]
    aspect_ratios: tuple[float, ...]
    strides: tuple[int, ...]

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """Heights and widths `(K, 2)` in pixels, and the strides `(K,)`."""
        roots = np.sqrt(np.array(self.aspect_ratios))
        shapes, strides = [], []
        for sizes, stride in zip(self.sizes, self.strides, strict=True):
            for size in sizes:
                shapes.append(np.stack([size / roots, size * roots], axis=-1))
                strides.append(np.full(len(roots), stride))
        return np.concatenate(shapes), np.concatenate(strides)


@dataclasses.dataclass(frozen=True)
class AnchorFit:
    """How well anchors fit boxes that lie a quarter of the stride off their centres on both axes, as on average.

    Attributes:
        mean_iou: of each box with its best anchor.
        shares: IoU -> the share of the boxes whose best anchor reaches it.
        levels: share of the boxes whose best anchor is on each level.
    """

    mean_iou: float
    shares: dict[float, float]
    levels: tuple[float, ...]


def fit_of_anchors(boxes: np.ndarray, anchors: AnchorShapes, ious: Sequence[float] = (0.5, 0.7)) -> AnchorFit:
    """Compares boxes with the anchors around them.

    Args:
        boxes: `(N, 2)` heights and widths in pixels of the network's images.
        anchors: those of the detector.
        ious: overlaps to count, such as the one from which on an anchor is an object.
    """
    shapes, strides = anchors.all()
    if not len(boxes):
        return AnchorFit(0.0, dict.fromkeys(ious, 0.0), (0.0,) * len(anchors.strides))
    best, which = np.zeros(len(boxes)), np.zeros(len(boxes), int)
    for index, (shape, stride) in enumerate(zip(shapes, strides, strict=True)):
        overlap = _iou(boxes, shape, _MEAN_DISTANCE_STRIDES * stride)
        better = overlap > best
        best[better], which[better] = overlap[better], index
    per_level = [len(sizes) * len(anchors.aspect_ratios) for sizes in anchors.sizes]
    level_of = np.repeat(np.arange(len(per_level)), per_level)
    levels = np.bincount(level_of[which], minlength=len(per_level)) / len(boxes)
    return AnchorFit(float(best.mean()), {iou: float(np.mean(best >= iou)) for iou in ious}, tuple(levels.tolist()))


def suggest_anchors(boxes: np.ndarray, anchors: AnchorShapes) -> AnchorShapes:
    """Sizes and ratios for boxes, as many as `anchors` has, by k-means over 1 - IoU.

    A network has every size with every ratio, so that both are clustered on their own: sizes among squares of the same
    centre, ratios among boxes of the same area. A size is no smaller than the stride of its level, or boxes between
    the centres of anchors would be missed.

    Args:
        boxes: `(N, 2)` heights and widths in pixels of the network's images.
        anchors: those of the detector.
    """
    boxes = boxes[:: -(-len(boxes) // _MOST_BOXES)] if len(boxes) else np.ones([1, 2])
    sides, ratios = np.sqrt(boxes.prod(axis=1)), boxes[:, 1] / boxes[:, 0]
    count = sum(map(len, anchors.sizes))
    # Squares overlap by the square of the quotient of their sides, boxes of one area by q / (2 - q) with q the root of
    # the quotient of their ratios: both depend on the distance of logarithms only.
    sizes = iter(np.exp(_cluster(np.log(sides), count, lambda distance: np.exp(-2 * distance))))
    roots = _cluster(np.log(ratios), len(anchors.aspect_ratios), _same_area_iou)
    return AnchorShapes(
        tuple(
            tuple(_round(max(float(next(sizes)), stride)) for _ in level)
            for level, stride in zip(anchors.sizes, anchors.strides, strict=True)
        ),
        tuple(round(float(np.exp(root)), 2) for root in roots),
        anchors.strides,
    )


def level_shares(boxes: np.ndarray, levels: Sequence[int], canonical_size: float) -> dict[int, float]:
    """The share of RoIs that are pooled from each pyramid level: floor(4 + log2(sqrt(area) / canonical_size)), clipped.

    Args:
        boxes: `(N, 2)` heights and widths in pixels of the network's images.
        levels: of the pyramid that RoIs are pooled from.
        canonical_size: side in pixels of a RoI of level 4.
    """
    sides = np.sqrt(np.maximum(boxes.prod(axis=1), 1e-6))
    chosen = np.clip(np.floor(4 + np.log2(sides / canonical_size)), levels[0], levels[-1])
    return {level: float(np.mean(chosen == level)) if len(boxes) else 0.0 for level in levels}


def suggest_canonical_size(boxes: np.ndarray, levels: Sequence[int]) -> float:
    """The canonical size with which the median box is in the middle of the pyramid.

    Args:
        boxes: `(N, 2)` heights and widths in pixels of the network's images, at least one.
        levels: of the pyramid that RoIs are pooled from.
    """
    median = float(np.median(np.sqrt(boxes.prod(axis=1))))
    middle = (levels[0] + levels[-1] + 1) / 2
    return _round(median * 2 ** (4 - middle))


def _iou(boxes: np.ndarray, shape: np.ndarray, distance: float) -> np.ndarray:
    """Of boxes `(N, 2)` with an anchor whose centre is so many pixels away on both axes."""
    near, far = np.minimum(boxes, shape) / 2, np.maximum(boxes, shape) / 2
    # Of two intervals, the smaller one lies inside the larger until its centre is `far - near` away.
    sides = np.clip(near + far - np.maximum(distance, far - near), 0, None)
    overlap = sides.prod(axis=1)
    return overlap / (boxes.prod(axis=1) + shape.prod() - overlap)


def _same_area_iou(distance: np.ndarray) -> np.ndarray:
    root = np.exp(-distance / 2)
    return root / (2 - root)


def _cluster(values: np.ndarray, count: int, iou_at: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The centres of k-means in one dimension over 1 - IoU, in increasing order.

    Args:
        values: logarithms of sides or ratios.
        count: of centres.
        iou_at: the overlap of two shapes whose logarithms are so far apart; the nearest centre has the highest.
    """
    centres = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(_ROUNDS):
        nearest = np.argmin(np.abs(values[:, None] - centres), axis=1)
        moved = centres.copy()
        for index in range(count):
            members = values[nearest == index]
            if len(members):
                candidates = np.quantile(members, _CANDIDATES)
                moved[index] = candidates[np.argmax(iou_at(np.abs(members[:, None] - candidates)).mean(axis=0))]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return np.sort(centres)


def _round(size: float) -> float:
    """To a whole number, small ones to half a pixel."""
    return float(round(size)) if size >= 16 else round(size * 2) / 2

"""How many objects of each class there are, and how large the network sees them."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tf_dcnv2.data.inspection.objects import ImageSet

# COCO's bounds of small and medium objects, by the root of the area in pixels.
_SMALL_PX, _MEDIUM_PX = 32.0, 96.0


@dataclasses.dataclass(frozen=True)
class ClassSummary:
    """The objects of one class; crowd regions count in `boxes` and `crowd` only.

    Attributes:
        name: of the class.
        boxes: how many there are.
        images: on how many images.
        crowd: how many are crowd regions.
        sides: 10th, 50th and 90th percentile of the root of the area, in pixels of the network's image; NaN for none.
        shares: of objects that are small (below 32 x 32 pixels of the network's image), medium, and large (above 96 x
            96).
    """

    name: str
    boxes: int
    images: int
    crowd: int
    sides: tuple[float, float, float]
    shares: tuple[float, float, float]


def summarize_classes(images: ImageSet, resized_boxes: np.ndarray, categories: Mapping[int, str]) -> list[ClassSummary]:
    """A summary of each class, the one with most boxes first, and of all together at the end.

    Args:
        images: the content of the records.
        resized_boxes: `(N, 4)` its boxes in pixels of the network's images.
        categories: category id -> name.
    """
    sides = np.sqrt(np.prod(resized_boxes[:, 2:] - resized_boxes[:, :2], axis=1))
    of_classes = [_summarize(name, images, sides, images.classes == key) for key, name in categories.items()]
    everything = _summarize("all", images, sides, np.ones(len(sides), bool))
    return [*sorted(of_classes, key=lambda summary: -summary.boxes), everything]


def side_histogram(sides: np.ndarray) -> list[tuple[str, int]]:
    """Counts of sides in pixels, in classes from a power of the root of 2 to the next: (range, count).

    Args:
        sides: `(N,)` roots of areas.
    """
    if not len(sides):
        return []
    steps = np.floor(2 * np.log2(np.maximum(sides, 1.0))).astype(int)
    counts = np.bincount(steps)
    return [
        (f"{2 ** (step / 2):.0f} to {2 ** ((step + 1) / 2):.0f}", int(counts[step]))
        for step in range(steps.min(), len(counts))
    ]


def _summarize(name: str, images: ImageSet, sides: np.ndarray, members: np.ndarray) -> ClassSummary:
    objects = sides[members & ~images.crowd]
    percentiles = np.percentile(objects, [10, 50, 90]) if len(objects) else np.full(3, np.nan)
    bins = np.digitize(objects, [_SMALL_PX, _MEDIUM_PX])
    shares = np.bincount(bins, minlength=3) / max(len(objects), 1)
    return ClassSummary(
        name,
        int(members.sum()),
        len(np.unique(images.image_of[members])),
        int((members & images.crowd).sum()),
        tuple(percentiles.tolist()),
        tuple(shares.tolist()),
    )

"""Tells in which convention boxes are written, and converts them to COCO's.

Shapes: N boxes. COCO's own is `xywh`: left, top, width and height in pixels.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

_CORNERS: dict[str, Callable[..., tuple]] = {
    "xywh": lambda x, y, w, h: (x, y, w, h),
    "xyxy": lambda x1, y1, x2, y2: (x1, y1, x2 - x1, y2 - y1),
    "yxyx": lambda y1, x1, y2, x2: (x1, y1, x2 - x1, y2 - y1),
    "cxcywh": lambda x, y, w, h: (x - w / 2, y - h / 2, w, h),
}
_UNITS = {"": None, "-normalized": 1.0, "-percent": 100.0}
BOX_FORMATS = tuple(layout + unit for unit in _UNITS for layout in _CORNERS)

# Signs that could be chance count from so many boxes on.
_ENOUGH_BOXES = 20

_MEANINGS = {
    "xywh": "left, top, width, height",
    "xyxy": "corners left, top, right, bottom",
    "yxyx": "corners top, left, bottom, right",
    "cxcywh": "centre, width, height",
    "": "in pixels",
    "-normalized": "as fractions of the image",
    "-percent": "in percent of the image",
}


@dataclasses.dataclass(frozen=True)
class BoxEvidence:
    """The boxes of a file with what else is known of each; NaN where it is not.

    Attributes:
        boxes: `(N, 4)`, as in the file.
        sizes: `(N, 2)`, height and width of each box's image in pixels.
        outlines: `(N, 4)`, the box `xywh` around each object's segmentation in pixels.
        areas: `(N,)`, the annotated areas.
        images: `(N,)`, a number for each image.
    """

    boxes: np.ndarray
    sizes: np.ndarray
    outlines: np.ndarray
    areas: np.ndarray
    images: np.ndarray


@dataclasses.dataclass(frozen=True)
class Suspicion:
    """Conventions that explain the boxes better than COCO's, and the share of boxes that they explain."""

    formats: tuple[str, ...]
    share: float

    def __str__(self) -> str:
        guesses = " or ".join(f"{name} ({describe_format(name)})" for name in self.formats)
        return (
            f"the boxes do not look like COCO's xywh ({describe_format('xywh')}): {self.share:.0%} of them look like "
            f"{guesses}"
        )


def describe_format(name: str) -> str:
    """Describes a format such as `xyxy-normalized` in words."""
    layout, _, unit = name.partition("-")
    return f"{_MEANINGS[layout]} {_MEANINGS[unit and f'-{unit}']}"


def to_coco(boxes: np.ndarray, name: str, sizes: np.ndarray) -> np.ndarray:
    """Boxes `(N, 4)` of the format `name` as COCO's `xywh` in pixels.

    Args:
        boxes: `(N, 4)`.
        name: one of `BOX_FORMATS`.
        sizes: `(N, 2)` height and width of each box's image; used by formats that are relative to it.
    """
    layout, _, unit = name.partition("-")
    first = np.stack(_CORNERS[layout](*np.asarray(boxes, np.float64).T), axis=-1)
    whole = _UNITS[unit and f"-{unit}"]
    return first if whole is None else first / whole * np.tile(np.asarray(sizes)[:, ::-1], 2)


def other_format(evidence: BoxEvidence) -> Suspicion | None:
    """Says which convention the boxes seem to follow; None if COCO's explains them well enough.

    Segmentations decide where there are enough of them. Otherwise three signs count: boxes that are smaller than a
    pixel, annotated areas that fit only corners, and boxes that reach past their images only if read as COCO's.
    """
    if not len(evidence.boxes):
        return None
    with np.errstate(invalid="ignore"):
        outlined = np.isfinite(evidence.outlines).all(axis=1)
        if outlined.mean() >= 0.2:
            return _by_outlines(evidence, outlined)
        return _by_fractions(evidence) or _by_areas(evidence) or _by_borders(evidence) or _by_percent(evidence)


def outlines_disagree(evidence: BoxEvidence) -> int:
    """The number of boxes `xywh` that are not the boxes of their own segmentations."""
    outlined = np.isfinite(evidence.outlines).all(axis=1)
    return int((~_agrees(evidence, "xywh")[outlined]).sum())


def _agrees(evidence: BoxEvidence, name: str) -> np.ndarray:
    boxes = to_coco(evidence.boxes, name, evidence.sizes)
    tolerance = 2.0 + 0.05 * evidence.outlines[:, 2:].max(axis=1, initial=0.0)
    return np.abs(boxes - evidence.outlines).max(axis=1, initial=0.0) <= tolerance


def _fits(evidence: BoxEvidence, name: str) -> np.ndarray:
    """Whether each box has a positive size and lies inside its image, up to rounding."""
    x, y, width, height = to_coco(evidence.boxes, name, evidence.sizes).T
    slack = 2.0 + 0.01 * evidence.sizes
    inside = (x >= -slack[:, 1]) & (y >= -slack[:, 0])
    inside &= (x + width <= evidence.sizes[:, 1] + slack[:, 1]) & (y + height <= evidence.sizes[:, 0] + slack[:, 0])
    return inside & (width > 0) & (height > 0)


def _by_outlines(evidence: BoxEvidence, outlined: np.ndarray) -> Suspicion | None:
    shares = {name: _agrees(evidence, name)[outlined].mean() for name in BOX_FORMATS}
    best = max(shares, key=shares.__getitem__)
    return Suspicion((best,), shares[best]) if shares["xywh"] < 0.5 and shares[best] >= 0.8 else None


def _by_fractions(evidence: BoxEvidence) -> Suspicion | None:
    small = (evidence.boxes > -0.05).all(axis=1) & (evidence.boxes < 1.05).all(axis=1) & evidence.boxes.any(axis=1)
    if small.mean() < 0.5:
        return None
    # What a unit square makes of the boxes; they need no image for it.
    unit = dataclasses.replace(evidence, boxes=evidence.boxes * 1000.0, sizes=np.full_like(evidence.sizes, 1000.0))
    fitting = [layout for layout in _CORNERS if _fits(unit, layout)[small].mean() >= 0.95]
    return Suspicion(tuple(f"{layout}-normalized" for layout in fitting or ["xywh"]), small.mean())


def _by_areas(evidence: BoxEvidence) -> Suspicion | None:
    known = evidence.areas > 0
    if not known.any():
        return None

    def share(name: str) -> float:
        sides = to_coco(evidence.boxes, name, evidence.sizes)[known, 2:]
        error = np.abs(sides.prod(axis=1) - evidence.areas[known])
        return ((error <= 1 + 0.02 * evidence.areas[known]) & (sides > 0).all(axis=1)).mean()

    corners = "yxyx" if _fits(evidence, "yxyx").mean() > _fits(evidence, "xyxy").mean() + 0.05 else "xyxy"
    return Suspicion((corners,), share(corners)) if share("xywh") < 0.5 and share(corners) >= 0.9 else None


def _by_borders(evidence: BoxEvidence) -> Suspicion | None:
    sized = np.isfinite(evidence.sizes).all(axis=1)
    if not sized.any() or _fits(evidence, "xywh")[sized].mean() > 0.9:
        return None
    # Few boxes that reach past the right border fit as centres by chance.
    candidates = ("xyxy", "yxyx", "cxcywh") if sized.sum() >= _ENOUGH_BOXES else ("xyxy", "yxyx")
    fitting = [name for name in candidates if _fits(evidence, name)[sized].mean() >= 0.99]
    return Suspicion(tuple(fitting), _fits(evidence, fitting[0])[sized].mean()) if fitting else None


def _by_percent(evidence: BoxEvidence) -> Suspicion | None:
    """Many boxes that all end within the first 100 pixels of images that are far larger."""
    ends = evidence.boxes[:, :2] + np.maximum(evidence.boxes[:, 2:], 0)
    large = (evidence.sizes >= 300).all(axis=1)
    if len(ends) < _ENOUGH_BOXES or len(np.unique(evidence.images)) < 5 or not large.all():
        return None
    all_within = ends.max() <= 100.5 and ends.max(axis=0).min() >= 70
    return Suspicion(("xywh-percent",), 1.0) if all_within else None

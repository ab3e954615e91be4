"""Pictures of detections and annotations: boxes with names and scores, and masks."""

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tf_dcnv2._core.masks import paste_mask
from tf_dcnv2.fonts import font_for

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

_GOLDEN_RATIO = (5**0.5 - 1) / 2
_MASK_OPACITY = 0.4


def class_color(class_id: int) -> tuple[int, int, int]:
    """A vivid colour for a class id, the same in every picture; neighbouring ids differ clearly."""
    hue = (0.02 + class_id * _GOLDEN_RATIO) % 1.0
    # Every other turn around the colour circle is lighter, which keeps more classes apart.
    value, saturation = ((0.95, 0.85), (1.0, 0.6))[class_id % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray | None = None,
    classes: np.ndarray | None = None,
    *,
    masks: np.ndarray | None = None,
    mask_boxes: np.ndarray | None = None,
    names: Mapping[int, str] | None = None,
    min_score: float = 0.5,
    zoom: float = 1.0,
) -> np.ndarray:
    """Draws boxes, class names, scores and masks onto an image.

    Args:
        image: `(H, W, 3)` RGB, uint8 or float 0..255.
        boxes: `(D, 4)`, `[y1, x1, y2, x2]` in pixels of `image`.
        scores: `(D,)` in 0..1, or None to draw every box without a score (for annotations).
        classes: `(D,)` category ids, -1 for entries that are padding; None for a single class.
        masks: `(D, R, R)` probabilities in the frames of the boxes; drawn as a translucent area with an outline.
        mask_boxes: `(D, 4)` frames of the masks where these are not `boxes`, as in `load_records`.
        names: category id -> name to write; ids without a name, or whose name has characters that no font of this
            machine has, are written as numbers.
        min_score: leave out detections with a lower score.
        zoom: enlarge the picture by this factor first, so that labels on small images stay readable.

    Returns:
        `(round(H * zoom), round(W * zoom), 3)` uint8.

    Raises:
        ValueError: a shape does not fit.

    Example:
        >>> picture = draw_detections(image, boxes, scores, classes, names={2: "star", 5: "cross"})
        >>> save_image(picture, "detections.png")
    """
    from PIL import Image, ImageDraw

    image, boxes = np.asarray(image), np.asarray(boxes, np.float64)
    count = len(boxes)
    if mask_boxes is not None and np.shape(mask_boxes) != boxes.shape:
        raise ValueError(f"mask_boxes must be {boxes.shape}, as boxes. Received: {np.shape(mask_boxes)}")
    scores_or_ones = np.ones(count) if scores is None else np.asarray(scores, np.float64)
    classes = np.zeros(count, int) if classes is None else np.asarray(classes)
    _check_shapes(image, boxes, scores_or_ones, classes, masks)
    height, width = (max(1, round(side * zoom)) for side in image.shape[:2])
    picture = Image.fromarray(np.clip(np.round(image), 0, 255).astype(np.uint8))
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    line_px = max(1, round(min(height, width) / 200))
    font_px = max(10, round(min(height, width) / 32))
    drawable = (classes >= 0) & (scores_or_ones >= min_score) & np.isfinite(boxes).all(axis=1)
    # The surest last, so that its label stays on top.
    order = sorted(np.flatnonzero(drawable), key=lambda i: scores_or_ones[i])
    if masks is not None:
        frames = boxes if mask_boxes is None else np.asarray(mask_boxes, np.float64)
        picture = _with_masks(picture, frames[order] * zoom, np.asarray(masks)[order], classes[order], line_px)
    draw = ImageDraw.Draw(picture)
    for index in order:
        class_id = int(classes[index])
        label = "" if names is None and not class_id else str((names or {}).get(class_id, class_id))
        font = font_for(label, font_px)
        if font is None:
            label, font = str(class_id), font_for("0", font_px)
        if scores is not None:
            label = f"{label} {scores_or_ones[index]:.2f}".strip()
        y1, x1, y2, x2 = np.clip(boxes[index] * zoom, 0, [height - 1, width - 1] * 2)
        _draw_box(draw, (x1, y1, x2, y2), label, class_color(class_id), line_px, font, picture.size)
    return np.asarray(picture)


def draw_annotations(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    *,
    crowd: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    mask_boxes: np.ndarray | None = None,
    names: Mapping[int, str] | None = None,
) -> np.ndarray:
    """Draws annotated objects onto an image, and behind them crowd regions, whose labels say that they are ignored.

    Args:
        image: `(H, W, 3)` RGB, uint8 or float 0..255.
        boxes: `(N, 4)`, `[y1, x1, y2, x2]` in pixels of `image`. Those without area are left out: random cropping has
            cut the object off.
        classes: `(N,)` category ids, -1 for entries that are padding.
        crowd: `(N,)` bool, regions that are no single objects: nothing is learnt or counted there.
        masks: see `draw_detections`.
        mask_boxes: see there.
        names: see there.

    Returns:
        `(H, W, 3)` uint8.

    Raises:
        ValueError: a shape does not fit.

    Example:
        >>> inputs, targets = next(load_records("records/val", batch_size=1).as_numpy_iterator())
        >>> image = inputs["images"][0]
        >>> picture = draw_annotations(image, targets["boxes"][0], targets["classes"][0], crowd=targets["crowd"][0])
    """
    boxes, classes = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(classes)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.asarray(crowd, bool)
    if crowd.shape != (len(boxes),):
        raise ValueError(f"crowd must have one entry for each of {len(boxes)} boxes. Received: {crowd.shape}")
    visible = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    objects = np.where(visible & ~crowd, classes, -1)
    regions = np.where(visible & crowd, classes, -1)
    shown = {key: _writable((names or {}).get(key, key), key) for key in set(regions.tolist())}
    ignored = {key: f"{name} (ignored)" for key, name in shown.items()}
    picture = draw_detections(image, boxes, classes=regions, masks=masks, mask_boxes=mask_boxes, names=ignored)
    return draw_detections(picture, boxes, classes=objects, masks=masks, mask_boxes=mask_boxes, names=names)


def unwritable_names(names: Iterable[str]) -> list[str]:
    """Finds the names with characters that no font of this machine has; pictures show their ids instead."""
    return [name for name in names if font_for(name, 10) is None]


def _writable(name: object, class_id: int) -> str:
    """The name, or the id if no font here can write it."""
    return str(class_id if unwritable_names([str(name)]) else name)


def _check_shapes(
    image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, masks: np.ndarray | None
) -> None:
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be (height, width, 3). Received: image.shape={image.shape}")
    if boxes.size and boxes.shape[1:] != (4,):
        raise ValueError(f"boxes must be (D, 4). Received: boxes.shape={boxes.shape}")
    for name, values in (("scores", scores), ("classes", classes)):
        if values.shape != (len(boxes),):
            raise ValueError(f"{name} must have one entry for each of {len(boxes)} boxes. Received: {values.shape}")
    if masks is not None and (np.ndim(masks) != 3 or len(masks) != len(boxes)):
        raise ValueError(f"masks must be (D, R, R) for {len(boxes)} boxes. Received: masks.shape={np.shape(masks)}")


def _with_masks(
    picture: "Image.Image", boxes: np.ndarray, masks: np.ndarray, classes: np.ndarray, line_px: int
) -> "Image.Image":
    """The picture with each object's pixels tinted and outlined in the colour of its class."""
    from PIL import Image, ImageFilter

    pixels = np.asarray(picture, np.float32)
    for box, mask, class_id in zip(boxes, masks, classes, strict=True):
        inside = paste_mask(mask, box, *pixels.shape[:2])
        shrunk = Image.fromarray(255 * inside).filter(ImageFilter.MinFilter(2 * line_px + 1))
        opacity = np.where(np.asarray(shrunk), _MASK_OPACITY, inside)[..., None]
        pixels = pixels * (1 - opacity) + opacity * np.array(class_color(int(class_id)), np.float32)
    return Image.fromarray(np.round(pixels).astype(np.uint8))


def _draw_box(
    draw: "ImageDraw.ImageDraw",
    corners: Sequence[float],
    label: str,
    color: tuple[int, int, int],
    line_px: int,
    font: "ImageFont.FreeTypeFont | ImageFont.ImageFont | None",
    picture_size: tuple[int, int],
) -> None:
    x1, y1, x2, y2 = corners
    # A dark rim keeps the box visible on a background of its own colour.
    draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=tuple(part // 4 for part in color), width=line_px + 2)
    draw.rectangle(corners, outline=color, width=line_px)
    if not label:
        return
    left, top, right, bottom = draw.textbbox((0, 0), label, font=font)
    pad = max(2, line_px)
    text_width, text_height = right - left + 2 * pad, bottom - top + 2 * pad
    # Above the box, or inside it where there is no room.
    label_y = y1 - text_height if y1 >= text_height else y1
    label_x = max(0, min(x1, picture_size[0] - text_width))
    draw.rectangle((label_x, label_y, label_x + text_width, label_y + text_height), fill=color)
    ink = "black" if sum(part * weight for part, weight in zip(color, (0.3, 0.6, 0.1), strict=True)) > 130 else "white"
    draw.text((label_x + pad - left, label_y + pad - top), label, font=font, fill=ink)

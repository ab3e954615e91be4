"""A small COCO-format data set of deformed, rotated, partly hidden shapes, drawn on demand."""

import dataclasses
import io
import json
import os
import zlib
from typing import Annotated, Any, NamedTuple

import numpy as np

from tf_dcnv2._core.atomic_files import write_atomically
from tf_dcnv2._core.checked_types import NonNegativeInt, PositiveInt, Range, checked_arguments
from tf_dcnv2._core.masks import uncompressed_rle
from tf_dcnv2.data.synthetic import drawing
from tf_dcnv2.data.synthetic.outlines import mask_polygons

# Ids with gaps, as COCO's own have, so that whoever assumes 1..N notices.
_SHAPES = {
    2: ("star", drawing.star),
    5: ("cross", drawing.cross),
    11: ("moon", drawing.moon),
    17: ("arrow", drawing.arrow),
}
_MAX_OBJECTS = 6
_MIN_VISIBLE_SHARE = 0.6
_MIN_SHARE_INSIDE = 0.75
_SHARE_WITHOUT_OBJECTS = 0.05
_SHARE_WITH_CROWD = 0.08


class SyntheticCoco(NamedTuple):
    """The paths of a synthetic data set; unpacks into the first two arguments of `convert_coco`."""

    images_dir: str
    annotations_file: str


@dataclasses.dataclass
class _Shape:
    """An object or a crowd on the image: the pixels still visible, and how many it had when it was painted."""

    category_id: int
    visible: np.ndarray
    painted_area: int
    crowd: bool = False


class _Look(NamedTuple):
    """What the shapes of a data set look like; see `make_synthetic_coco`."""

    deformation: float
    color_cue: float

    def outline(self, rng: np.random.Generator, category_id: int) -> np.ndarray:
        return drawing.deform(_SHAPES[category_id][1](), rng, self.deformation)

    def fill(self, rng: np.random.Generator, category_id: int, height: int, width: int) -> np.ndarray:
        own_hue = list(_SHAPES).index(category_id) / len(_SHAPES)
        spread = 1.0 - self.color_cue
        return drawing.fill_texture(rng, height, width, own_hue + rng.uniform(-0.5, 0.5) * spread)


@checked_arguments
def make_synthetic_coco(
    output_dir: str | os.PathLike,
    *,
    num_images: PositiveInt = 250,
    image_size: tuple[Annotated[int, Range(64)], Annotated[int, Range(64)]] = (160, 192),
    seed: NonNegativeInt = 0,
    split: str = "train",
    deformation: Annotated[float, Range(0, 2)] = 1.0,
    color_cue: Annotated[float, Range(0, 1)] = 0.0,
) -> SyntheticCoco:
    """Draws a data set to try detectors on: shapes that a rigid sampling grid fits badly.

    Stars, crosses, moons and arrows are stretched, sheared, bent and rotated, overlap each other, hide behind leaves
    and reach past the border, on textured backgrounds with clutter. Boxes, polygons and areas describe the visible
    part; at least 60 % of every object is visible. Category ids have gaps (2, 5, 11, 17). Some images have no
    object, some a crowd of tiny shapes (`iscrowd` with a run-length mask).

    Args:
        output_dir: gets `images/<split>/*.jpg` and `annotations/instances_<split>.json`.
        num_images: how many images to draw.
        image_size: `(height, width)` in pixels, at least 64 each. Objects measure about 1/6 to 1/2 of the shorter side.
        seed: images depend on nothing but `seed`, the other arguments, and their number in the set.
        split: name of the part; different names give different images.
        deformation: how strongly shapes are deformed; 0 leaves rotation and scale only.
        color_cue: how much the colour tells about the category. 0: nothing, only the shape does, which takes a network
            some ten thousand objects to learn from scratch. 1: each category has a colour of its own. Between, hues of
            a category spread over 1 - `color_cue` of the colour circle.

    Returns:
        `(images_dir, annotations_file)`.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> images, annotations = make_synthetic_coco("shapes", num_images=250, split="train")
        >>> convert_coco(images, annotations, "shapes/records/train")
    """
    height, width = image_size
    look = _Look(deformation, color_cue)
    from PIL import Image

    images_dir = os.path.join(os.fspath(output_dir), "images", split)
    os.makedirs(images_dir, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, num_images + 1):
        rng = np.random.default_rng([seed, zlib.crc32(split.encode()), image_id])
        pixels, shapes = _draw_image(rng, height, width, look)
        name = f"{image_id:06d}.jpg"
        jpeg = io.BytesIO()  # Pillow does not notice that a disk is full
        Image.fromarray(pixels).save(jpeg, "JPEG", quality=92)
        write_atomically(os.path.join(images_dir, name), jpeg.getvalue())
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for shape in shapes:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **_annotate(shape)})
    content = {
        "info": {"description": "Synthetic deformed shapes", "version": "1", "split": split, "seed": seed},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": key, "name": name, "supercategory": "shape"} for key, (name, _) in _SHAPES.items()],
    }
    annotations_file = os.path.join(os.fspath(output_dir), "annotations", f"instances_{split}.json")
    write_atomically(annotations_file, json.dumps(content))
    return SyntheticCoco(images_dir, annotations_file)


def _draw_image(rng: np.random.Generator, height: int, width: int, look: _Look) -> tuple[np.ndarray, list[_Shape]]:
    image = drawing.clutter(rng, drawing.background(rng, height, width))
    shapes: list[_Shape] = []
    if rng.uniform() < _SHARE_WITHOUT_OBJECTS:
        return _to_uint8(rng, image), shapes
    if rng.uniform() < _SHARE_WITH_CROWD:
        image = _add_crowd(rng, image, shapes, look)
    for _ in range(rng.integers(2, _MAX_OBJECTS + 1)):
        image = _add_object(rng, image, shapes, look)
    for _ in range(rng.integers(0, 4)):
        image = _add_leaf(rng, image, shapes)
    return _to_uint8(rng, image), shapes


def _add_object(rng: np.random.Generator, image: np.ndarray, shapes: list[_Shape], look: _Look) -> np.ndarray:
    """Paints one shape where it hides no earlier one too much; leaves the image alone if it finds no such place."""
    height, width = image.shape[:2]
    for _ in range(10):
        category_id = int(rng.choice(list(_SHAPES)))
        outline = look.outline(rng, category_id)
        size = min(height, width) * np.exp(rng.uniform(np.log(0.17), np.log(0.5)))
        outline *= size / np.ptp(outline, axis=0).max()
        outline += rng.uniform((0, 0), (width, height))
        alpha = drawing.coverage([outline], height, width)
        inside = alpha >= 0.5
        if inside.sum() >= _MIN_SHARE_INSIDE * _polygon_area(outline) and _leaves_visible(inside, shapes):
            _hide(inside, shapes)
            shapes.append(_Shape(category_id, inside, int(_polygon_area(outline))))
            image = drawing.cast_shadow(image, alpha, distance=0.012 * min(height, width))
            return drawing.paint(image, alpha, look.fill(rng, category_id, height, width))
    return image


def _add_crowd(rng: np.random.Generator, image: np.ndarray, shapes: list[_Shape], look: _Look) -> np.ndarray:
    """Paints a heap of tiny shapes of one category, annotated as a single crowd."""
    height, width = image.shape[:2]
    category_id = int(rng.choice(list(_SHAPES)))
    unit = min(height, width)
    centre = rng.uniform((0.2 * width, 0.2 * height), (0.8 * width, 0.8 * height))
    covered = np.zeros((height, width), bool)
    for _ in range(rng.integers(12, 20)):
        outline = look.outline(rng, category_id)
        outline *= rng.uniform(0.07, 0.1) * unit / np.ptp(outline, axis=0).max()
        alpha = drawing.coverage([outline + centre + rng.normal(0, 0.1 * unit, 2)], height, width)
        covered |= alpha >= 0.5
        image = drawing.paint(image, alpha, look.fill(rng, category_id, height, width))
    shapes.append(_Shape(category_id, covered, int(covered.sum()), crowd=True))
    return image


def _add_leaf(rng: np.random.Generator, image: np.ndarray, shapes: list[_Shape]) -> np.ndarray:
    height, width = image.shape[:2]
    outline = drawing.blade(rng, rng.uniform(0.2, 0.45) * min(height, width))
    alpha = drawing.coverage([outline + rng.uniform((0, 0), (width, height))], height, width)
    if not _leaves_visible(alpha >= 0.5, shapes):
        return image
    _hide(alpha >= 0.5, shapes)
    return drawing.paint(image, alpha, drawing.muted_color(rng, rng.uniform(0.2, 0.45), rng.uniform(0.25, 0.6)))


def _leaves_visible(covered: np.ndarray, shapes: list[_Shape]) -> bool:
    return all((shape.visible & ~covered).sum() >= _MIN_VISIBLE_SHARE * shape.painted_area for shape in shapes)


def _hide(covered: np.ndarray, shapes: list[_Shape]) -> None:
    for shape in shapes:
        shape.visible = shape.visible & ~covered


def _annotate(shape: _Shape) -> dict:
    rows, columns = (np.flatnonzero(shape.visible.any(axis=axis)) for axis in (1, 0))
    box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
    return {
        "category_id": shape.category_id,
        "bbox": [float(value) for value in box],
        "area": float(shape.visible.sum()),
        "iscrowd": int(shape.crowd),
        "segmentation": uncompressed_rle(shape.visible) if shape.crowd else mask_polygons(shape.visible),
    }


def _polygon_area(outline: np.ndarray) -> float:
    x, y = outline.T
    return 0.5 * abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)))


def _to_uint8(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    grain = rng.normal(0, 0.012, image.shape)
    return (np.clip(image + grain, 0, 1) * 255 + 0.5).astype(np.uint8)

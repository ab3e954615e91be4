"""What a set of records holds, read from the sidecars that `convert_coco` writes."""

import collections
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from tf_dcnv2.data.record_files import find_shards, group_by_prefix, read_sidecar, sidecar_path


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a set of records holds.

    Attributes:
        categories: category id -> name, in order of id.
        num_images: number of images, those without any box included.
        num_boxes: number of boxes, crowd ones included.
        num_crowd: number of crowd boxes.
        max_boxes_per_image: the largest number of boxes on one image.
        boxes_per_category: category id -> number of boxes, crowd ones included.
        image_ids: COCO image ids in the order of the shards.
        has_masks: whether every box has a mask.
        shards: paths of the record files.
    """

    categories: dict[int, str]
    num_images: int
    num_boxes: int
    num_crowd: int
    max_boxes_per_image: int
    boxes_per_category: dict[int, int]
    image_ids: tuple[int, ...]
    has_masks: bool
    shards: tuple[str, ...]

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The category ids in increasing order."""
        return tuple(self.categories)

    def __str__(self) -> str:
        if len(self.categories) <= 8:
            parts = ", ".join(f"{name} {self.boxes_per_category[key]}" for key, name in self.categories.items())
        else:
            parts = f"ids {min(self.categories)} to {max(self.categories)}"
        return f"{self.num_images} images, {self.num_boxes} boxes, {len(self.categories)} classes ({parts})"


def read_dataset_info(pattern: str | os.PathLike | Sequence[str | os.PathLike]) -> DatasetInfo:
    """Describes converted records without reading them.

    Args:
        pattern: the prefix given to `convert_coco`, a file, a glob pattern, or a list of these; a pattern that matches
            some shards of a data set describes these only.

    Returns:
        The description; several data sets are summed up, and must agree on their categories.

    Raises:
        FileNotFoundError: nothing matches, or the records have no sidecar.
        ValueError: the data set is incomplete, or data sets disagree on a category's name.

    Example:
        >>> info = read_dataset_info("records/train")
        >>> detector = FasterRCNN.from_preset("faster_rcnn_small_dcnv2", category_ids=info.category_ids)
    """
    paths = find_shards(pattern)
    info = describe_shards(paths)
    if info is None:
        missing = [sidecar_path(prefix) for prefix in group_by_prefix(paths) if read_sidecar(prefix) is None]
        raise FileNotFoundError(
            f"No description of these records was found ({', '.join(missing) or paths[0]}). "
            "Make them with tf_dcnv2.data.convert_coco, or state the category ids yourself."
        )
    return info


def describe_shards(paths: Sequence[str]) -> DatasetInfo | None:
    """Like `read_dataset_info` for the result of `find_shards`; None if a file has no description."""
    categories: dict[int, str] = {}
    shards: dict[str, dict[str, Any]] = {}
    has_masks = True
    for prefix in group_by_prefix(paths):
        sidecar = read_sidecar(prefix)
        if sidecar is None:
            return None
        has_masks &= sidecar["has_masks"]
        _add_categories(categories, sidecar["categories"])
        shards |= {os.path.join(os.path.dirname(prefix), shard["file"]): shard for shard in sidecar["shards"]}
    if not shards.keys() >= set(paths):
        return None
    selected = [shards[path] for path in paths]
    boxes_of = collections.Counter({category_id: 0 for category_id in categories})
    for shard in selected:
        boxes_of.update({int(category_id): count for category_id, count in shard["boxes"].items()})
    return DatasetInfo(
        categories=dict(sorted(categories.items())),
        num_images=sum(len(shard["image_ids"]) for shard in selected),
        num_boxes=sum(boxes_of.values()),
        num_crowd=sum(shard["crowd"] for shard in selected),
        max_boxes_per_image=max(shard["max_boxes_per_image"] for shard in selected),
        boxes_per_category=dict(sorted(boxes_of.items())),
        image_ids=tuple(image_id for shard in selected for image_id in shard["image_ids"]),
        has_masks=has_masks,
        shards=tuple(paths),
    )


def _add_categories(known: dict[int, str], more: Sequence[dict[str, Any]]) -> None:
    for category in more:
        name = known.setdefault(category["id"], category["name"])
        if name != category["name"]:
            raise ValueError(f"Category {category['id']} is {name!r} in one data set, {category['name']!r} in another.")

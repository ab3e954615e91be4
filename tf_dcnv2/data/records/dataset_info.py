"""Describes a set of records by the sidecars that `convert_coco` writes."""

import collections
import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tf_dcnv2.data.records.category_names import describe_difference, match_categories
from tf_dcnv2.data.records.files import find_shards, group_by_prefix, read_sidecar, sidecar_path


@dataclasses.dataclass(frozen=True)
class Renumbering:
    """Maps the ids in the records of one data set to those of several data sets together.

    Attributes:
        categories: category id in the records -> id in the whole; ids that stay the same are left out.
        images: the same for image ids.
    """

    categories: dict[int, int] = dataclasses.field(default_factory=dict)
    images: dict[int, int] = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.categories or self.images)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """The content of a set of records.

    Several data sets count as one. Their categories are matched by name, and an image id that occurs in more than one
    of them gets another number in the later ones.

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
        boxes_per_image: number of boxes of each of `image_ids`; empty for records of earlier versions.
        orientation: "stored" if the annotations of EXIF-rotated images are of the frame as stored in the file,
            "upright" otherwise.
        original_ids: image id -> what the annotation file has instead, where that is no 64-bit integer.
        renumbering: prefix -> how its ids were changed; only for data sets of which some were.
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
    boxes_per_image: tuple[int, ...] = ()
    orientation: str = "upright"
    original_ids: Mapping[int, Any] = dataclasses.field(default_factory=dict)
    renumbering: Mapping[str, Renumbering] = dataclasses.field(default_factory=dict)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The category ids in increasing order."""
        return tuple(self.categories)

    def notes(self) -> list[str]:
        """What a user should know of how several data sets were put together, and of what is unusual in them."""
        notes = []
        for prefix, changed in self.renumbering.items():
            if changed.categories:
                pairs = ", ".join(f"{old} -> {new}" for old, new in changed.categories.items())
                notes.append(f"categories of {prefix} are matched by name: {pairs}")
            if changed.images:
                notes.append(
                    f"{len(changed.images)} image ids of {prefix} occur in another set too and got new numbers"
                )
        return notes + warnings_about_boxes(self.num_boxes, self.num_crowd)

    def images_with_more_than(self, num_boxes: int) -> int:
        """The number of images that have more than so many boxes."""
        return sum(count > num_boxes for count in self.boxes_per_image)

    def boxes_beyond(self, num_boxes: int) -> int:
        """The number of boxes in excess of so many on an image, over all images."""
        return sum(max(0, count - num_boxes) for count in self.boxes_per_image)

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
        The description; several data sets are summed up, with categories matched by name.

    Raises:
        FileNotFoundError: nothing matches, or the records have no sidecar.
        ValueError: the data set is incomplete, or data sets give the same id to different categories.

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


def require_objects(info: DatasetInfo, what: str) -> None:
    """Checks that there is something to learn from.

    Args:
        info: a set of records.
        what: how the user named them.

    Raises:
        ValueError: there is no box, or all boxes are crowd regions.
    """
    if problems := warnings_about_boxes(info.num_boxes, info.num_crowd):
        raise ValueError(f"{what}: {problems[0]}")


def warnings_about_boxes(boxes: int, crowd: int) -> list[str]:
    """What a user should know of a data set with so many boxes, and so many crowd regions among them."""
    if not boxes:
        return ["there is not a single box: nothing can be learnt from it"]
    if boxes == crowd:
        return [
            f"all {boxes} boxes are crowd regions (iscrowd is 1, which CVAT writes for masks), and a crowd region is "
            "ignored: nothing can be learnt from it. If they are single objects, set iscrowd to 0"
        ]
    return []


def describe_shards(paths: Sequence[str], categories: Mapping[int, str] | None = None) -> DatasetInfo | None:
    """Like `read_dataset_info` for the result of `find_shards`; None if a file has no description.

    Args:
        paths: of record files.
        categories: id -> name of categories, such as a detector's, whose ids are to be used instead of the records'.

    Raises:
        ValueError: also if the records have boxes of a category that `categories` has not.
    """
    groups = group_by_prefix(paths)
    prefix_by_path = {path: prefix for prefix, group in groups.items() for path in group}
    sidecars = {prefix: sidecar for prefix in groups if (sidecar := read_sidecar(prefix)) is not None}
    if not sidecars or len(sidecars) < len(groups) or not prefix_by_path.keys() >= set(paths):
        return None
    shards = {
        os.path.join(os.path.dirname(prefix), shard["file"]): shard
        for prefix, sidecar in sidecars.items()
        for shard in sidecar["shards"]
    }
    if not shards.keys() >= set(paths):
        return None
    merged = _Merged(categories)
    for prefix, sidecar in sidecars.items():
        merged.add(prefix, sidecar, [shards[path] for path in groups[prefix]])
    selected = [shards[path] for path in paths]
    orientations = sum(
        (collections.Counter(shard.get("orientations", {})) for shard in selected), collections.Counter()
    )
    return DatasetInfo(
        categories=dict(sorted(merged.categories.items())),
        num_images=sum(len(shard["image_ids"]) for shard in selected),
        num_boxes=sum(merged.boxes_of.values()),
        num_crowd=sum(shard["crowd"] for shard in selected),
        max_boxes_per_image=max(shard["max_boxes_per_image"] for shard in selected),
        boxes_per_category={key: merged.boxes_of[key] for key in sorted(merged.categories)},
        image_ids=tuple(
            merged.renumbering[prefix_by_path[path]].images.get(image_id, image_id)
            for path in paths
            for image_id in shards[path]["image_ids"]
        ),
        has_masks=all(sidecar["has_masks"] for sidecar in sidecars.values()),
        shards=tuple(paths),
        boxes_per_image=tuple(count for shard in selected for count in shard.get("boxes_per_image", ())),
        orientation="stored" if orientations["stored"] and not orientations["upright"] else "upright",
        original_ids=merged.original_ids,
        renumbering={prefix: changed for prefix, changed in merged.renumbering.items() if changed},
    )


class _Merged:
    """Categories and image ids of several data sets, brought together one after the other."""

    def __init__(self, categories: Mapping[int, str] | None):
        self._is_given = categories is not None
        self.categories = dict(categories or {})
        self.boxes_of: collections.Counter[int] = collections.Counter()
        self.original_ids: dict[int, Any] = {}
        self.renumbering: dict[str, Renumbering] = {}
        self._image_ids: set[int] = set()

    def add(self, prefix: str, sidecar: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> None:
        boxes_of: collections.Counter[int] = collections.Counter()
        for shard in shards:
            boxes_of.update({int(category_id): count for category_id, count in shard["boxes"].items()})
        new_ids = self._match({entry["id"]: entry["name"] for entry in sidecar["categories"]}, boxes_of, prefix)
        self.boxes_of.update({new_ids[key]: count for key, count in boxes_of.items()})
        image_ids = [image_id for shard in shards for image_id in shard["image_ids"]]
        images = self._renumber(image_ids)
        self._image_ids.update(images.get(image_id, image_id) for image_id in image_ids)
        for number, original in sidecar.get("original_ids", ()):
            self.original_ids[images.get(number, number)] = original
        self.renumbering[prefix] = Renumbering({old: new for old, new in new_ids.items() if old != new}, images)

    def _match(self, own: Mapping[int, str], boxes_of: Mapping[int, int], prefix: str) -> dict[int, int]:
        found = match_categories(own, self.categories)
        missing = [key for key in own if key not in found]
        if self._is_given:
            if without := [key for key in missing if boxes_of.get(key)]:
                raise ValueError(
                    f"The records {prefix!r} have categories that the detector was not trained on: "
                    f"{describe_difference(own, self.categories, without)}."
                )
            return found
        for key in missing:
            name = self.categories.setdefault(key, own[key])
            if name != own[key]:
                raise ValueError(f"Category {key} is {name!r} in one data set, {own[key]!r} in another.")
            found[key] = key
        return found

    def _renumber(self, image_ids: Sequence[int]) -> dict[int, int]:
        """New numbers for the ids that an earlier data set has already."""
        taken = [image_id for image_id in image_ids if image_id in self._image_ids]
        if not taken:
            return {}
        used = self._image_ids.union(image_ids)
        highest = max(max(used), 0)
        # Upwards from the highest, or where that is near the end of 64 bits, downwards from the lowest.
        numbers = itertools.count(highest + 1) if highest < 2**62 else itertools.count(min(min(used), 0) - 1, -1)
        return dict(zip(taken, numbers, strict=False))

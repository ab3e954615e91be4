"""What looks wrong in a set of records, each with the name of the image file."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from tf_dcnv2.data.findings import Finding, read_report
from tf_dcnv2.data.inspection.objects import ImageSet
from tf_dcnv2.data.records.dataset_info import DatasetInfo
from tf_dcnv2.data.records.files import group_by_prefix, report_path

# On the network's image, fewer pixels show nothing that could be learnt.
_SMALLEST_SIDE_PX = 4.0
# No anchor and no RoI fits a box that is so many times longer than wide.
_LONGEST_SHAPE = 20.0
# A class of fewer boxes is learnt by nobody, and measured by nothing.
_FEWEST_BOXES = 10


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that a user should look at.

    Attributes:
        kind: what it is, in words; problems of the same kind are counted together.
        file: name of the image file; empty if it concerns no single image.
        detail: what this one has; may be empty.
    """

    kind: str
    file: str
    detail: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.kind) if part) + (f" ({self.detail})" if self.detail else "")


def find_problems(info: DatasetInfo, images: ImageSet, resized_boxes: np.ndarray) -> list[Problem]:
    """Lists what the conversion reported, and what looks wrong in what it wrote.

    Args:
        info: the description of the records.
        images: their content.
        resized_boxes: `(N, 4)` its boxes in pixels of the network's images.

    Raises:
        ValueError: a report beside the records is damaged.
    """
    return [
        *_of_conversion(info),
        *_of_classes(info),
        *_of_images(images),
        *_of_boxes(images, resized_boxes, info.categories),
    ]


def _of_conversion(info: DatasetInfo) -> Iterator[Problem]:
    for prefix in group_by_prefix(info.shards):
        findings = read_report(report_path(prefix))
        for message in findings.warnings:
            yield Problem(message, "")
        for verb, items in (("skipped", findings.skipped), ("repaired", findings.repaired)):
            for item in items:
                yield _of_finding(verb, item)


def _of_finding(verb: str, item: Finding) -> Problem:
    """A reason that names what this item has is a detail, or no two problems would be of the same kind."""
    if verb == "repaired":
        return Problem(f"{item.kind} repaired: {item.reason}", item.file, f"{item.kind} {item.item_id}")
    return Problem(f"{item.kind} skipped", item.file, f"{item.kind} {item.item_id}: {item.reason}")


def _of_classes(info: DatasetInfo) -> Iterator[Problem]:
    for key, name in info.categories.items():
        count = info.boxes_per_category.get(key, 0)
        if count < _FEWEST_BOXES:
            yield Problem(f"class of fewer than {_FEWEST_BOXES} boxes", "", f"{name}: {count}")


def _of_images(images: ImageSet) -> Iterator[Problem]:
    boxes_on = np.bincount(images.image_of, minlength=len(images.files))
    for index in np.flatnonzero(boxes_on == 0).tolist():
        yield Problem("image without any box", images.files[index])
    same = collections.defaultdict(list)
    for index, fingerprint in enumerate(images.fingerprints.tolist()):
        same[fingerprint].append(index)
    for first, *others in same.values():
        for index in others:
            apart = images.prefixes[first] != images.prefixes[index]
            kind = "image of one set of records is in another too" if apart else "image is there twice"
            yield Problem(kind, images.files[index], f"the same as {images.files[first]}")


def _of_boxes(images: ImageSet, resized: np.ndarray, names: Mapping[int, str]) -> Iterator[Problem]:
    sides = resized[:, 2:] - resized[:, :2]
    short, long = sides.min(axis=1, initial=np.inf), sides.max(axis=1, initial=0)
    checked = {
        f"box of less than {_SMALLEST_SIDE_PX:g} pixels in the network's image": short < _SMALLEST_SIDE_PX,
        f"box more than {_LONGEST_SHAPE:g} times as long as wide": long > _LONGEST_SHAPE * short,
        "box is there twice": _repeated(images),
    }
    for kind, found in checked.items():
        for index in np.flatnonzero(found & ~images.crowd).tolist():
            y1, x1, y2, x2 = images.boxes[index].round().astype(int).tolist()
            name = names.get(int(images.classes[index]), images.classes[index])
            yield Problem(kind, images.files[images.image_of[index]], f"{name} at x {x1}-{x2}, y {y1}-{y2}")


def _repeated(images: ImageSet) -> np.ndarray:
    """Which boxes have the image, class and place of an earlier one."""
    keys = np.column_stack([images.image_of, images.classes, images.boxes.round(1)])
    first = np.unique(keys, axis=0, return_index=True)[1] if len(keys) else np.zeros(0, int)
    repeated = np.ones(len(keys), bool)
    repeated[first] = False
    return repeated


def count_problems(problems: list[Problem]) -> dict[str, int]:
    """How many there are of each kind, in the order in which the kinds first occur."""
    return dict(collections.Counter(problem.kind for problem in problems))

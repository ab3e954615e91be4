"""COCO's ground truth and metrics, as pycocotools defines them, without its printing."""

import contextlib
import io
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_dcnv2._core.masks import box_rle
from tf_dcnv2.data.coco.annotations import CocoAnnotations
from tf_dcnv2.data.coco.segmentations import segmentation_rle

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

METRIC_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers, in the order of pycocotools."""


def ground_truth_of(content: CocoAnnotations) -> "COCO":
    """The usable part of an annotation file as a `pycocotools.coco.COCO`."""
    return make_ground_truth(content.images, content.all_annotations(), content.categories)


def make_ground_truth(images: Iterable[dict], annotations: Iterable[dict], categories: dict[int, str]) -> "COCO":
    """Builds a `pycocotools.coco.COCO` from COCO's own image and annotation dicts.

    Annotations are numbered anew (pycocotools overlooks one with id 0 and loses all but one of equal ids), and get
    the fields its evaluation needs if they lack them.
    """
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": list(images),
        "annotations": [
            {"iscrowd": 0, "area": annotation["bbox"][2] * annotation["bbox"][3], **annotation, "id": number}
            for number, annotation in enumerate(annotations, start=1)
        ],
        "categories": [{"id": category_id, "name": name} for category_id, name in categories.items()],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def has_segmentations(ground_truth: "COCO") -> bool:
    """Whether any annotation of a `pycocotools.coco.COCO` has a segmentation."""
    return any(annotation.get("segmentation") for annotation in ground_truth.anns.values())


def mask_ground_truth(ground_truth: "COCO", images: Mapping[int, dict]) -> "COCO":
    """Makes the ground truth of masks: that of some images, with a run-length code of every annotation.

    An annotation that never had a segmentation gets its box. One whose segmentation is unusable becomes a crowd region
    with its box: a detection there is neither right nor wrong.

    Args:
        ground_truth: `pycocotools.coco.COCO` with all of the images.
        images: image id -> `{"height", "width"}` in pixels, which are optional in an annotation file.
    """
    encoded = [
        _encoded(annotation, image["height"], image["width"])
        for image_id, image in images.items()
        for annotation in ground_truth.imgToAnns[image_id]
    ]
    names = {category["id"]: category["name"] for category in ground_truth.dataset["categories"]}
    return make_ground_truth(({**ground_truth.imgs[key], **image} for key, image in images.items()), encoded, names)


def _encoded(annotation: dict, height: int, width: int) -> dict:
    x, y, box_width, box_height = annotation["bbox"]
    box = box_rle([y, x, y + box_height, x + box_width], height, width)
    try:
        segmentation = annotation.get("segmentation", box)
        if segmentation is None:
            raise ValueError("no usable segmentation")
        return {**annotation, "segmentation": segmentation_rle(segmentation, height, width)}
    except ValueError:
        return {**annotation, "segmentation": segmentation_rle(box, height, width), "iscrowd": 1}


def require_images(ground_truth: "COCO", image_ids: Collection[int]) -> None:
    """Checks that the ground truth has all images.

    Raises:
        ValueError: it lacks one; the message says which.
    """
    unknown = [image_id for image_id in image_ids if image_id not in ground_truth.imgs]
    if unknown:
        raise ValueError(f"The annotations have no image with id {unknown[0]} ({len(unknown)} images are missing).")


def run_coco_eval(
    ground_truth: "COCO", results: list[dict], image_ids: list[int], iou_type: str = "bbox"
) -> "COCOeval":
    """Scores detections on the given images.

    Args:
        ground_truth: `pycocotools.coco.COCO` from one of the functions above.
        results: detections in COCO's results format, `{"image_id", "category_id", "bbox": [x, y, width, height],
            "score"}` each, for "segm" with a run-length code `"segmentation"`; may be empty.
        image_ids: the images to score.
        iou_type: `"bbox"` or `"segm"`.

    Returns:
        The `pycocotools.cocoeval.COCOeval` after its `summarize`; where faster-coco-eval is installed its
        `COCOeval_faster`, which has the same numbers in `stats` and `eval`.
    """
    evaluator = _fast_evaluator() or _reference_evaluator()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = evaluator(ground_truth, _load_results(ground_truth, results, iou_type), iou_type)
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _reference_evaluator() -> type["COCOeval"]:
    from pycocotools.cocoeval import COCOeval

    return COCOeval


def _fast_evaluator() -> type | None:
    """The evaluator of faster-coco-eval, which matches detections in C++; None where that is not installed."""
    try:
        from faster_coco_eval import COCOeval_faster
    except ImportError:
        return None
    return COCOeval_faster


def coco_metrics(evaluation: "COCOeval") -> dict[str, Any]:
    """COCO's numbers.

    Returns:
        The twelve metrics by name, in 0..1 or -1 where no object is of the kind, and `per_class`: category id ->
        `{"AP": …, "AP50": …}`.
    """
    metrics: dict[str, Any] = dict(zip(METRIC_NAMES, map(float, evaluation.stats), strict=True))
    # IoU threshold x recall x category x area range (first: all) x detections per image (last: 100)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    metrics["per_class"] = {
        int(category_id): {
            "AP": mean_of_present(precision[:, :, index]),
            "AP50": mean_of_present(precision[0, :, index]),
        }
        for index, category_id in enumerate(evaluation.params.catIds)
    }
    return metrics


def _load_results(ground_truth: "COCO", results: list[dict], iou_type: str) -> "COCO":
    if results:
        # With a box in them, loadRes would take the box's area for the size of a mask. It adds fields to what it gets.
        left_out = {"bbox"} if iou_type == "segm" else {"segmentation"}
        return ground_truth.loadRes([{k: v for k, v in result.items() if k not in left_out} for result in results])
    # loadRes fails on an empty list.
    categories = {category["id"]: category["name"] for category in ground_truth.dataset["categories"]}
    return make_ground_truth(ground_truth.dataset["images"], [], categories)


def mean_of_present(values: np.ndarray) -> float:
    """Mean of precisions or recalls; pycocotools marks what does not exist by -1."""
    present = values[values > -1]
    return float(present.mean()) if present.size else -1.0

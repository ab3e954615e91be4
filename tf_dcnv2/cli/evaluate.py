"""`tf-dcnv2 evaluate`: COCO average precision of a trained detector."""

import argparse
from typing import Any

from tf_dcnv2.cli.arguments import add_image_size, add_run, image_size, positive_int
from tf_dcnv2.cli.console import progress_bar, say

SUMMARY = "measure COCO average precision on records"

DESCRIPTION = """\
Prints COCO's twelve numbers and the average precision of each class, of boxes and, where the detector and the data set
have them, of masks, and writes the detections in COCO's results format (original pixels, the data set's own ids), which
pycocotools and COCO's evaluation server read."""

EXAMPLES = """\
  tf-dcnv2 evaluate runs/cells --records records/val
  tf-dcnv2 evaluate runs/cells/last.keras --records 'records/val-*' --annotations instances_val.json"""

_MEANINGS = {
    "AP": "IoU 0.50:0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small objects, below 32x32 px",
    "APm": "medium objects",
    "APl": "large objects, above 96x96 px",
    "AR1": "at most 1 detection an image",
    "AR10": "at most 10",
    "AR100": "at most 100",
    "ARs": "small objects",
    "ARm": "medium objects",
    "ARl": "large objects",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_run(parser)
    parser.add_argument("--records", required=True, metavar="PREFIX", help="records to evaluate on: prefix or pattern")
    parser.add_argument(
        "--annotations", metavar="JSON", help="score against this file (default: the records' boxes and masks)"
    )
    parser.add_argument("--output", metavar="JSON", help="detections (default: results.json in the run's folder)")
    parser.add_argument(
        "--batch-size", type=positive_int, default=2, metavar="N", help="images at once (default: %(default)s)"
    )
    add_image_size(parser)
    parser.add_argument("--max-images", type=positive_int, metavar="N", help="only the first N images")


def run(arguments: argparse.Namespace) -> None:
    """Evaluates and prints the tables."""
    from tf_dcnv2.cli.trained import load_trained
    from tf_dcnv2.data import load_records, read_dataset_info
    from tf_dcnv2.evaluation import evaluate_coco

    info = read_dataset_info(arguments.records)
    trained = load_trained(arguments.run_path)
    dataset = load_records(
        arguments.records,
        batch_size=arguments.batch_size,
        masks=trained.detector.has_mask_head and info.has_masks and not arguments.annotations,
        **image_size(arguments, trained.detector),
    )
    say("data", info)
    say("model", trained)
    results_path = arguments.output or str(trained.path.with_name("results.json"))
    total = min(info.num_images, arguments.max_images or info.num_images)
    with progress_bar("evaluate") as progress:
        metrics = evaluate_coco(
            trained.detector,
            dataset,
            annotations=arguments.annotations,
            results_path=results_path,
            max_images=arguments.max_images,
            progress=lambda done: progress(min(done, total), total),
        )
    for kind, numbers in metrics.items():
        say({"bbox": "boxes", "segm": "masks"}[kind], f"on {total} images")
        print_metrics(numbers, trained.names)
    say("written", results_path)


def print_metrics(metrics: dict[str, Any], names: dict[int, str]) -> None:
    """Prints COCO's twelve numbers and the table of classes."""
    for name, meaning in _MEANINGS.items():
        say(name, f"{_number(metrics[name])}   {meaning}")
    width = max(map(len, [*names.values(), "class"]))
    print()
    say("class", f"{'':{width}}    AP    AP50")
    for category_id, scores in metrics["per_class"].items():
        name = names.get(category_id, str(category_id))
        say(f"  {category_id}", f"{name:<{width}}  {_number(scores['AP'])}  {_number(scores['AP50'])}")


def _number(value: float) -> str:
    """COCO says -1 where there is nothing to measure."""
    return f"{value:.3f}" if value >= 0 else "    -"

"""How fast detections with masks are scored, beside pasting each mask into the whole image and encoding that.

    python -m benchmarks.evaluation [--images 100]

No detector runs: its answers are drawn at random, a hundred detections with masks on each image of 480 x 640 pixels,
so that what is measured is evaluation alone. Both ways see the same data in turn, in the same process, and must give
the same run-length codes and numbers. Times are processor time of this process, which other work on the machine
disturbs less than the clock; `detections` is pasting and encoding, `metrics` is COCO's evaluation of boxes and masks.
"""

import argparse
import time
from unittest import mock

import numpy as np

from tf_dcnv2._core.masks import compressed_rle
from tf_dcnv2.evaluation import coco_metrics, detect_dataset, evaluated_image

HEIGHT, WIDTH, DETECTIONS, OBJECTS, CELLS = 480, 640, 100, 7, 28


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100, metavar="N")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="times that each way is measured")
    arguments = parser.parse_args()
    dataset, answers = _draw(arguments.images)
    print(f"{arguments.images} images of {WIDTH} x {HEIGHT} pixels, {DETECTIONS} detections with masks on each")
    print(f"{'':34}  detections    metrics   together  (images per second of processor time)")
    ways = {
        "whole images, pycocotools": (_whole_image_rle, None),
        "boxes, pycocotools": (evaluated_image.pasted_rle, None),
    }
    if (fast := coco_metrics._fast_evaluator()) is not None:
        ways["boxes, faster-coco-eval"] = (evaluated_image.pasted_rle, fast)
    seconds, results = {name: [] for name in ways}, {}
    for _ in range(arguments.repeats):
        for name, (encode, evaluator) in ways.items():
            with (
                mock.patch.object(evaluated_image, "pasted_rle", encode),
                mock.patch.object(coco_metrics, "_fast_evaluator", lambda evaluator=evaluator: evaluator),
            ):
                results[name], times = _measure(dataset, answers)
            seconds[name].append(times)
    best = {name: np.min(times, axis=0) for name, times in seconds.items()}
    [plain, *others] = ways
    for name in ways:
        speeds = [arguments.images / part for part in (*best[name], best[name].sum())]
        print(f"{name:34}  {speeds[0]:10.1f} {speeds[1]:10.1f} {speeds[2]:10.1f}")
    for name in others:
        print(f"{name} is {best[plain].sum() / best[name].sum():.1f} times as fast as {plain}")
        _require_same(results[plain], results[name])


def _measure(dataset, answers):
    remaining = iter(answers)
    start = time.process_time()
    detected = detect_dataset(lambda inputs: next(remaining), dataset)
    middle = time.process_time()
    metrics = detected.metrics()
    return (detected.results, metrics), (middle - start, time.process_time() - middle)


def _require_same(expected, given):
    assert given[0] == expected[0], "the run-length codes differ"
    for kind, metrics in expected[1].items():
        for name in coco_metrics.METRIC_NAMES:
            assert abs(given[1][kind][name] - metrics[name]) < 1e-9, f"{kind} {name} differs"


def _whole_image_rle(mask, box, height, width, *, whole_pixels):
    assert not whole_pixels
    rows, columns = (_weights(box[axis], box[axis + 2], side) for axis, side in ((0, height), (1, width)))
    pasted = np.zeros((height, width), np.uint8)
    pasted[rows[0], columns[0]] = rows[1] @ np.asarray(mask, np.float64) @ columns[1].T >= 0.5
    return compressed_rle(pasted)


def _weights(start, end, side):
    first, last = int(np.clip(np.floor(start), 0, side)), int(np.clip(np.ceil(end), 0, side))
    centres = (np.arange(first, last) + 0.5 - start) / (end - start) * CELLS - 0.5
    return slice(first, last), np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(CELLS)))


def _draw(images):
    """Batches of one image with COCO's number of objects, and what a detector might answer."""
    random = np.random.default_rng(0)
    dataset, answers = [], []
    for image_id in range(1, images + 1):
        boxes, masks, classes = _boxes(random, OBJECTS), _masks(random, OBJECTS), random.integers(1, 81, OBJECTS)
        targets = {
            "image_ids": np.array([image_id]),
            "original_sizes": np.array([[HEIGHT, WIDTH]], np.float32),
            "boxes": boxes[None],
            "classes": classes[None],
            "crowd": np.zeros([1, OBJECTS], bool),
            "masks": (masks[None] > 0.5).astype(np.uint8),
            "mask_boxes": boxes[None],
        }
        inputs = {
            "images": np.full([1, 4, 4, 3], image_id, np.float32),
            "image_sizes": np.array([[HEIGHT, WIDTH]], np.float32),
        }
        dataset.append((inputs, targets))
        others = DETECTIONS - OBJECTS
        found = _in_image(boxes + random.normal(0, 4, boxes.shape))
        answers.append(
            {
                "boxes": np.concatenate([found, _boxes(random, others)])[None],
                "scores": random.uniform(0.05, 1, [1, DETECTIONS]),
                "classes": np.concatenate([classes, random.integers(1, 81, others)])[None],
                "masks": np.concatenate([masks, _masks(random, others)])[None],
            }
        )
    return dataset, answers


def _boxes(random, count):
    """Boxes with sides around 80 pixels, as COCO's are."""
    sides = np.clip(np.exp(random.normal(np.log(80), 0.8, [count, 2])), 8, 400)
    centres = random.uniform(0, 1, [count, 2]) * [HEIGHT, WIDTH]
    return _in_image(np.concatenate([centres - sides / 2, centres + sides / 2], axis=1))


def _in_image(boxes):
    low = np.clip(boxes[:, :2], 0, [HEIGHT - 2, WIDTH - 2])
    return np.concatenate([low, np.clip(boxes[:, 2:], low + 1, [HEIGHT, WIDTH])], axis=1).astype(np.float32)


def _masks(random, count):
    """Ellipses of all directions with soft edges."""
    y, x = np.mgrid[:CELLS, :CELLS] / (CELLS - 1) - 0.5
    angle = random.uniform(0, np.pi, [count, 1, 1])
    axes = random.uniform(0.25, 0.5, [2, count, 1, 1])
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    inside = 1 / (1 + np.exp(20 * ((along / axes[0]) ** 2 + (across / axes[1]) ** 2 - 1)))
    return inside.astype(np.float32)


if __name__ == "__main__":
    main()

"""What the input pipeline costs, stage by stage, and what batches of similar shapes save.

    python -m benchmarks.input_pipeline records/train --short-side 800 --images 64
    python -m benchmarks.input_pipeline records/train --padding 2 8 16
    python -m benchmarks.input_pipeline records/train --step faster_rcnn_small_dcnv2 --short-side 320 --max-side 448

The first prints, for each stage together with all before it, the processor time that an image takes, which other work
on the machine hardly changes, and the images per second that one core and this machine reach by it. The second prints
the share of padded pixels in batches of these sizes, shuffled, without and with `aspect_grouping`. The third trains a
preset on this machine and prints which part of a step is spent waiting for images.
"""

import argparse
import os
import time

import numpy as np
import tensorflow as tf

from benchmarks.arguments import Parser, positive_int
from tf_dcnv2.data import load_records, read_dataset_info
from tf_dcnv2.data.images.resizing import resized_shape
from tf_dcnv2.data.inspection.objects import read_image_set
from tf_dcnv2.data.records.arrangement import group_by_aspect_ratio
from tf_dcnv2.data.records.decoding import make_decoder
from tf_dcnv2.data.records.network_size import NetworkSize
from tf_dcnv2.data.records.reading import read_records

_MASK_SIZE = 112
_PASSES = 8  # over which the share of padding is averaged


def main() -> None:
    parser = Parser(description=__doc__.partition("\n\n")[2].strip())
    parser.add_argument("records", metavar="PREFIX", help="records to read")
    parser.add_argument("--short-side", type=positive_int, default=800, metavar="PX", help="default: %(default)s")
    parser.add_argument("--max-side", type=positive_int, default=1333, metavar="PX", help="default: %(default)s")
    parser.add_argument("--size-multiple", type=positive_int, default=32, metavar="PX", help="default: %(default)s")
    parser.add_argument("--images", type=positive_int, default=64, metavar="N", help="per stage (default: %(default)s)")
    parser.add_argument("--rounds", type=positive_int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--padding", type=positive_int, nargs="+", metavar="B", help="print the padding of batches of so many images"
    )
    parser.add_argument("--step", metavar="PRESET", help="print how long training steps of this preset wait for images")
    parser.add_argument("--batch-size", type=positive_int, default=2, metavar="N", help="of --step (default: 2)")
    arguments = parser.parse_args()
    if arguments.padding:
        _print_padding(arguments)
    elif arguments.step:
        _print_wait(arguments)
    else:
        _print_stages(arguments)


def _print_stages(arguments: argparse.Namespace) -> None:
    info = read_dataset_info(arguments.records)
    count, cores = min(arguments.images, info.num_images), os.cpu_count() or 1
    print(f"{count} images, shorter side {arguments.short_side}, {cores} cores; least of {arguments.rounds} rounds")
    print(f"{'stage, with all before it':<42}{'CPU ms/image':>14}{'images/s, core':>16}{'images/s here':>15}")
    for name, dataset, per_element in _stages(arguments, info):
        elements = -(-count // per_element)
        rounds = [_measure(dataset, elements) for _ in range(arguments.rounds + 1)][1:]
        cpu, wall = (min(column) / (elements * per_element) for column in zip(*rounds, strict=True))
        print(f"{name:<42}{1e3 * cpu:>14.2f}{1 / cpu:>16.0f}{1 / wall:>15.0f}", flush=True)


def _stages(arguments: argparse.Namespace, info):
    """Name, endless dataset, and images of an element of each stage."""
    paths = list(info.shards)
    parallel = {"num_parallel_calls": tf.data.AUTOTUNE}
    records = read_records(paths, [""] * len(paths)).repeat()
    yield "read records", records, 1
    max_boxes = max(1, info.max_boxes_per_image)
    decoded = records.map(make_decoder(max_boxes, None, {}), **parallel)
    yield "decode images", decoded, 1
    size = NetworkSize((arguments.short_side,), arguments.max_side)
    yield "resize", decoded.map(size.to_largest, **parallel), 1
    common = {
        "batch_size": 2,
        "training": True,
        "repeat": True,
        "seed": 0,
        "short_side": arguments.short_side,
        "max_side": arguments.max_side,
    }
    yield "shuffle, flip, batch: what a detector gets", load_records(arguments.records, **common), 2
    if info.has_masks:
        yield "the same with masks", load_records(arguments.records, masks=True, **common), 2
        yield (
            "and copy-paste on half the images",
            load_records(arguments.records, copy_paste=0.5, masks=True, **common),
            2,
        )
    yield "without masks, scale 0.5 to 2", load_records(arguments.records, scale_range=(0.5, 2.0), **common), 2
    yield "without masks, colour jitter", load_records(arguments.records, color_jitter=0.5, **common), 2


def _measure(dataset: tf.data.Dataset, elements: int) -> tuple[float, float]:
    """Seconds of processor time and of the clock that so many elements take once the pipeline runs."""
    iterator = iter(dataset)
    next(iterator)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(elements):
        next(iterator)
    return time.process_time() - cpu, time.perf_counter() - wall


def _print_wait(arguments: argparse.Namespace) -> None:
    import keras

    from tf_dcnv2.models import load_preset

    info = read_dataset_info(arguments.records)
    detector = load_preset(arguments.step).build(info.category_ids)
    detector.compile(optimizer=keras.optimizers.SGD(1e-4, momentum=0.9))
    dataset = load_records(
        arguments.records,
        batch_size=arguments.batch_size,
        training=True,
        repeat=True,
        seed=0,
        short_side=arguments.short_side,
        max_side=arguments.max_side,
        masks=detector.has_mask_head,
    )
    iterator = iter(dataset)
    detector.train_on_batch(*next(iterator))  # builds the graph
    waited, whole = [], []
    for _ in range(-(-arguments.images // arguments.batch_size)):
        start = time.perf_counter()
        batch = next(iterator)
        waited.append(time.perf_counter() - start)
        detector.train_on_batch(*batch)
        whole.append(time.perf_counter() - start)
    print(
        f"{arguments.step}: {len(whole)} steps of {arguments.batch_size} images, {1e3 * np.mean(whole):.0f} ms each, "
        f"of which {1e3 * np.mean(waited):.1f} ms ({np.sum(waited) / np.sum(whole):.1%}) wait for images"
    )


def _print_padding(arguments: argparse.Namespace) -> None:
    images = read_image_set(read_dataset_info(arguments.records))
    sizes = np.array(
        [
            resized_shape(*size, short_side=arguments.short_side, max_side=arguments.max_side).numpy()
            for size in images.sizes
        ]
    )
    print(f"{len(sizes)} images, shorter side {arguments.short_side}; share of the pixels of batches that is padding")
    print(f"{'batch':<10}{'shuffled':>12}{'by aspect ratio':>18}{'pixels saved':>15}")
    for batch_size in arguments.padding:
        pixels = {
            grouped: _padded_pixels(sizes, batch_size, arguments.size_multiple, grouped) for grouped in (False, True)
        }
        real = sizes.prod(axis=1).mean()
        shares = [1 - real / pixels[grouped] for grouped in (False, True)]
        print(f"{batch_size:<10}{shares[0]:>12.1%}{shares[1]:>18.1%}{1 - pixels[True] / pixels[False]:>15.1%}")


def _padded_pixels(sizes: np.ndarray, batch_size: int, multiple: int, grouped: bool) -> float:
    """Pixels of a batch for each of its images, on average over shuffled passes; only full batches count."""
    dataset = tf.data.Dataset.from_tensor_slices(sizes).shuffle(len(sizes), seed=0)
    if grouped:
        dataset = group_by_aspect_ratio(dataset, lambda size: size, batch_size)
    batches = dataset.batch(batch_size, drop_remainder=True).repeat(_PASSES)
    padded = [-(-batch.max(axis=0) // multiple) * multiple for batch in batches.as_numpy_iterator()]
    return float(np.prod(padded, axis=1).mean())


if __name__ == "__main__":
    main()

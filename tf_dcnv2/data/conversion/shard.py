"""One shard of a data set: what is in it, how it is written, and what became of its images."""

import collections
import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from tf_dcnv2._core.tensorflow_files import errors_of_files
from tf_dcnv2.data.coco.annotations import CocoAnnotations
from tf_dcnv2.data.conversion.images import ConvertedImage, ImageConverter
from tf_dcnv2.data.findings import Findings
from tf_dcnv2.data.images.lookup import ImageLookup
from tf_dcnv2.data.records.staged_shards import StagedShards

# Each holds an image of any size in memory.
_MOST_THREADS = 8


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """One shard to write: what of the data set is in it, and where it goes."""

    shards: StagedShards
    index: int
    annotations: CocoAnnotations
    include_masks: bool


def most_threads() -> int:
    """How many threads one process converts images on: decoding and PNG compression release the GIL."""
    return min(os.cpu_count() or 1, _MOST_THREADS)


def write_shard(task: ShardTask, lookup: ImageLookup, threads: int, on_image: Callable[[], Any] = lambda: None) -> None:
    """Writes a shard and the description of what each of its images became.

    Args:
        task: the shard.
        lookup: finds the image files.
        threads: on which images are converted.
        on_image: called after every image.

    Raises:
        OSError: it cannot be written, such as on a full disk.
    """
    convert = ImageConverter(task.annotations, lookup, task.include_masks)
    converted = []
    with (
        errors_of_files(task.shards.final[task.index]),
        task.shards.new_shard(task.index) as path,
        concurrent.futures.ThreadPoolExecutor(max_workers=threads) as pool,
        tf.io.TFRecordWriter(path) as writer,
    ):
        for item in _map_in_order(pool, convert, task.annotations.images, ahead=2 * threads):
            if item.example is not None:
                writer.write(item.example)
            converted.append(_as_json(item))
            on_image()
    task.shards.finish(task.index, {"images": converted})


def read_shard(shards: StagedShards, index: int) -> list[ConvertedImage]:
    """What each image of a shard that was written became, without the bytes of the examples."""
    description = shards.description(index)
    if description is None:
        raise RuntimeError(f"{shards.path(index)} was written, and is not there: who deleted it?")
    return [_of_json(item) for item in description["images"]]


def _map_in_order(pool: concurrent.futures.Executor, function: Callable, items: Iterable, ahead: int) -> Iterator:
    """Maps like `pool.map`, but at most `ahead` items before its consumer, which bounds the memory."""
    items = iter(items)
    pending = collections.deque(pool.submit(function, item) for item in itertools.islice(items, ahead))
    try:
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
    finally:
        for future in pending:
            future.cancel()


def _as_json(item: ConvertedImage) -> dict[str, Any]:
    fields = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    return {**fields, "example": None if item.example is None else "", "findings": item.findings.to_json()}


def _of_json(fields: dict[str, Any]) -> ConvertedImage:
    example = None if fields["example"] is None else b""
    return ConvertedImage(**{**fields, "example": example, "findings": Findings.of_json(fields["findings"])})

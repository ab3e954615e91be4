"""Writes the shards of a data set: images are converted on several threads and written in order."""

import collections
import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf

from tf_dcnv2.data.coco.image_conversion import ConvertedImage

# Each holds an image of any size in memory.
_MOST_THREADS = 8


def write_shards(
    images: Sequence[dict],
    convert: Callable[[dict], ConvertedImage],
    paths: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> list[list[ConvertedImage]]:
    """Writes every shard.

    Args:
        images: entries of `images`; the shards take them in turn.
        convert: what makes an example of an entry.
        paths: of the shards.
        progress: called as `progress(done, total)` after every image.

    Returns:
        What each image of each shard became, without the bytes of the examples.
    """
    done = 0
    contents = []
    # Decoding and PNG compression release the GIL, so threads are enough.
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    with concurrent.futures.ThreadPoolExecutor(max_workers=threads) as pool:
        for index, path in enumerate(paths):
            shard = []
            with tf.io.TFRecordWriter(path) as writer:
                for item in _map_in_order(pool, convert, images[index :: len(paths)], ahead=2 * threads):
                    if item.example is not None:
                        writer.write(item.example)
                    shard.append(dataclasses.replace(item, example=item.example and b""))
                    done += 1
                    if progress is not None:
                        progress(done, len(images))
            contents.append(shard)
    return contents


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

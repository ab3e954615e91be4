"""Writes the shards of a data set, on the threads of this process or in several processes."""

import collections
import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import tensorflow as tf

from tf_dcnv2.data.coco.annotations import CocoAnnotations
from tf_dcnv2.data.conversion.images import ConvertedImage, ImageConverter
from tf_dcnv2.data.findings import Findings
from tf_dcnv2.data.images.lookup import ImageLookup
from tf_dcnv2.data.records.staged_shards import StagedShards

# Each holds an image of any size in memory.
_MOST_THREADS = 8
_POLL_SECONDS = 0.5

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """One shard to write: what of the data set is in it, and where it goes."""

    path: str
    images: Sequence[dict]
    annotations: CocoAnnotations
    include_masks: bool


def write_shards(
    annotations: CocoAnnotations,
    images_dir: str,
    shards: StagedShards,
    *,
    include_masks: bool,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[list[ConvertedImage]]:
    """Writes those shards that are not there yet; the images take turns.

    Args:
        annotations: the data set.
        images_dir: folder of its images.
        shards: where to write.
        include_masks: store a mask of every object.
        jobs: processes; one is this one.
        progress: called as `progress(done, total)`, after every image with one process and now and then with several.

    Returns:
        What each image of each shard became, without the bytes of the examples. The files are the same whatever `jobs`.

    Raises:
        RuntimeError: a process was killed.
    """
    count = len(shards.final)
    known = {index: description for index in range(count) if (description := shards.description(index)) is not None}
    tasks = {
        index: _task(annotations, shards.path(index), annotations.images[index::count], include_masks)
        for index in range(count)
        if index not in known
    }
    total = len(annotations.images)
    done = total - sum(len(task.images) for task in tasks.values())
    if jobs == 1 or len(tasks) <= 1:
        written = _write_here(tasks, images_dir, lambda new: progress and progress(done + new, total))
    else:
        written = _write_in_processes(
            tasks, images_dir, min(jobs, len(tasks)), lambda new: progress and progress(done + new, total)
        )
    contents = {index: [_of_json(item) for item in description["images"]] for index, description in known.items()}
    for index, converted in written:
        contents[index] = converted
        shards.finish(index, {"images": [_as_json(item) for item in converted]})
    return [contents[index] for index in range(count)]


def _task(annotations: CocoAnnotations, path: str, images: Sequence[dict], include_masks: bool) -> ShardTask:
    """A task with no more of the data set than its images need, since it may go to another process."""
    of_images = {image["id"]: annotations.annotations_of.get(image["id"], []) for image in images}
    part = dataclasses.replace(annotations, images=list(images), annotations_of=of_images, findings=Findings())
    return ShardTask(path, images, part, include_masks)


def _write_here(
    tasks: dict[int, ShardTask], images_dir: str, on_image: Callable[[int], Any]
) -> Iterator[tuple[int, list[ConvertedImage]]]:
    lookup, counter = ImageLookup(images_dir), itertools.count(1)
    # Decoding and PNG compression release the GIL, so threads are enough.
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    for index, task in tasks.items():
        yield index, _write_shard(task, lookup, threads, lambda: on_image(next(counter)))


def _write_in_processes(
    tasks: dict[int, ShardTask], images_dir: str, jobs: int, on_progress: Callable[[int], Any]
) -> Iterator[tuple[int, list[ConvertedImage]]]:
    # Not forked: TensorFlow's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin_process, initargs=(images_dir, counter, jobs)
    )
    try:
        pending = {pool.submit(_write_in_process, task): index for index, task in tasks.items()}
        while pending:
            finished, _ = concurrent.futures.wait(
                pending, _POLL_SECONDS, return_when=concurrent.futures.FIRST_COMPLETED
            )
            on_progress(counter.value)
            for future in finished:
                yield pending.pop(future), future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A process of the conversion was killed, most likely because memory ran out: use fewer jobs. The shards "
            "that are finished are kept for the next try."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@dataclasses.dataclass
class _Process:
    """What a process of the conversion keeps between shards."""

    lookup: ImageLookup
    counter: Any
    threads: int


_process: _Process | None = None


def _begin_process(images_dir: str, counter: Any, jobs: int) -> None:
    global _process
    # Ctrl-C reaches all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tf.config.set_visible_devices([], "GPU")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threads = max(1, min(os.cpu_count() or 1, _MOST_THREADS) // jobs)
    _process = _Process(ImageLookup(images_dir), counter, threads)


def _end_with_parent() -> None:
    """Ends this process when the one that started it was killed: nobody would give it work any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_in_process(task: ShardTask) -> list[ConvertedImage]:
    process = _process
    assert process is not None

    def count() -> None:
        with process.counter.get_lock():
            process.counter.value += 1

    return _write_shard(task, process.lookup, process.threads, count)


def _write_shard(
    task: ShardTask, lookup: ImageLookup, threads: int, on_image: Callable[[], Any]
) -> list[ConvertedImage]:
    convert = ImageConverter(task.annotations, lookup, task.include_masks)
    shard = []
    with (
        concurrent.futures.ThreadPoolExecutor(max_workers=threads) as pool,
        tf.io.TFRecordWriter(task.path) as writer,
    ):
        for item in _map_in_order(pool, convert, task.images, ahead=2 * threads):
            if item.example is not None:
                writer.write(item.example)
            shard.append(dataclasses.replace(item, example=item.example and b""))
            on_image()
    return shard


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

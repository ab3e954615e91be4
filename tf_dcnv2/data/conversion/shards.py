"""Writes the shards of a data set: on the threads of this process, in several processes, or on the workers of Beam."""

import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tf_dcnv2.data.coco.annotations import CocoAnnotations
from tf_dcnv2.data.conversion.beam import write_on_workers
from tf_dcnv2.data.conversion.images import ConvertedImage
from tf_dcnv2.data.conversion.shard import ShardTask, most_threads, read_shard, write_shard
from tf_dcnv2.data.findings import Findings
from tf_dcnv2.data.images.lookup import ImageLookup
from tf_dcnv2.data.records.staged_shards import StagedShards

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

_POLL_SECONDS = 0.5

Progress = Callable[[int, int], None]


def write_shards(
    annotations: CocoAnnotations,
    images_dir: str,
    shards: StagedShards,
    *,
    include_masks: bool,
    jobs: int = 1,
    beam_options: "PipelineOptions | None" = None,
    progress: Progress | None = None,
) -> list[list[ConvertedImage]]:
    """Writes those shards that are not there yet; the images take turns.

    Args:
        annotations: the data set.
        images_dir: folder of its images.
        shards: where to write.
        include_masks: store a mask of every object.
        jobs: processes; one is this one.
        beam_options: the workers of this Beam pipeline write the shards, in place of processes of this machine.
        progress: called as `progress(done, total)`, after every image with one process, now and then with several, and
            at the end with Beam.

    Returns:
        What each image of each shard became, without the bytes of the examples. The files are the same whoever writes
        them.

    Raises:
        RuntimeError: a process was killed, or the pipeline failed.
    """
    count, total = len(shards.final), len(annotations.images)
    tasks = [
        _task(annotations, shards, index, include_masks) for index in range(count) if shards.description(index) is None
    ]
    done = total - sum(len(task.annotations.images) for task in tasks)

    def on_progress(new: int) -> None:
        if progress is not None:
            progress(done + new, total)

    if beam_options is not None:
        write_on_workers(tasks, images_dir, beam_options)
        on_progress(total - done)
    elif jobs == 1 or len(tasks) <= 1:
        _write_here(tasks, images_dir, on_progress)
    else:
        _write_in_processes(tasks, images_dir, min(jobs, len(tasks)), on_progress)
    return [read_shard(shards, index) for index in range(count)]


def _task(annotations: CocoAnnotations, shards: StagedShards, index: int, include_masks: bool) -> ShardTask:
    """A task with no more of the data set than its images need, since it may go to another process."""
    images = annotations.images[index :: len(shards.final)]
    of_images = {image["id"]: annotations.annotations_of.get(image["id"], []) for image in images}
    part = dataclasses.replace(annotations, images=images, annotations_of=of_images, findings=Findings())
    return ShardTask(shards, index, part, include_masks)


def _write_here(tasks: Sequence[ShardTask], images_dir: str, on_image: Callable[[int], Any]) -> None:
    lookup, counter = ImageLookup(images_dir), itertools.count(1)
    for task in tasks:
        write_shard(task, lookup, most_threads(), lambda: on_image(next(counter)))


def _write_in_processes(
    tasks: Sequence[ShardTask], images_dir: str, jobs: int, on_progress: Callable[[int], Any]
) -> None:
    # Not forked: TensorFlow's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin_process, initargs=(images_dir, counter, jobs)
    )
    try:
        pending = {pool.submit(_write_in_process, task) for task in tasks}
        while pending:
            finished, pending = concurrent.futures.wait(
                pending, _POLL_SECONDS, return_when=concurrent.futures.FIRST_COMPLETED
            )
            on_progress(counter.value)
            for future in finished:
                future.result()
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
    _process = _Process(ImageLookup(images_dir), counter, max(1, most_threads() // jobs))


def _end_with_parent() -> None:
    """Ends this process when the one that started it was killed: nobody would give it work any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_in_process(task: ShardTask) -> None:
    process = _process
    assert process is not None

    def count() -> None:
        with process.counter.get_lock():
            process.counter.value += 1

    write_shard(task, process.lookup, process.threads, count)

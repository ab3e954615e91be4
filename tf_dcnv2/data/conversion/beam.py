"""Writes shards on the workers of an Apache Beam pipeline.

A shard is one element: what of the data set is in it lies in a file beside it, so that the pipeline holds names only,
and no image passes from worker to worker. The workers see the images and the records under the same paths as the
process that starts the pipeline, as on a file system that they share.
"""

import contextlib
import dataclasses
import importlib
import io
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tf_dcnv2._core.atomic_files import write_atomically
from tf_dcnv2.data.conversion.shard import ShardTask, most_threads, write_shard
from tf_dcnv2.data.images.lookup import ImageLookup

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions


def pipeline_options(arguments: Sequence[str]) -> "PipelineOptions":
    """The options of a pipeline.

    Args:
        arguments: as a program of Beam takes them, such as `["--runner=FlinkRunner", "--flink_master=host:8081"]`.

    Raises:
        ImportError: Beam is not installed.
        ValueError: Beam has no such runner or option, or no such value of it.
    """
    try:
        importlib.import_module("apache_beam")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is not installed; conversion with Apache Beam needs: pip install 'tf-dcnv2[beam]'"
        ) from error
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners import create_runner

    received = f"Received: {' '.join(arguments)}"
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            options = PipelineOptions(list(arguments))
            known, given = (options.get_all_options(retain_unknown_options=unknown) for unknown in (False, True))
    except SystemExit:  # of argparse, after a page of usage
        reason = messages.getvalue().strip().rpartition("error: ")[2]
        raise ValueError(f"Apache Beam's options: {reason}. {received}") from None
    if unknown := sorted(given.keys() - known.keys()):
        raise ValueError(f"Apache Beam has no option {', '.join(unknown)}. {received}")
    try:
        create_runner(options.view_as(StandardOptions).runner or "DirectRunner")
    except (ModuleNotFoundError, AttributeError) as error:  # of a runner by its full name
        raise ValueError(f"Apache Beam's runner: {error}. {received}") from error
    return options


def write_on_workers(tasks: Sequence[ShardTask], images_dir: str, options: "PipelineOptions") -> None:
    """Runs the pipeline until all shards are written.

    Args:
        tasks: the shards.
        images_dir: folder of their images.
        options: of the pipeline.

    Raises:
        RuntimeError: the pipeline was cancelled, or failed; some runners have errors of their own.
    """
    import apache_beam as beam
    from apache_beam.runners.runner import PipelineState

    pipeline = beam.Pipeline(options=options)
    _ = (
        pipeline
        | "Shards" >> beam.Create([_store(task) for task in tasks])
        | "SpreadOverWorkers" >> beam.Reshuffle()
        | "WriteShard" >> beam.Map(_write_stored, os.path.abspath(images_dir))
    )
    state = pipeline.run().wait_until_finish()
    if state != PipelineState.DONE:
        raise RuntimeError(
            f"The Beam pipeline ended as {state}. The shards that are finished are kept for the next try."
        )


def _store(task: ShardTask) -> str:
    """Writes what a worker needs to know of a shard; returns the file's path."""
    task = dataclasses.replace(task, shards=task.shards.absolute())
    path = f"{task.shards.path(task.index)}.task"
    write_atomically(path, pickle.dumps(task))
    return path


def _write_stored(file: str, images_dir: str) -> None:
    write_shard(pickle.loads(Path(file).read_bytes()), ImageLookup(images_dir), most_threads())

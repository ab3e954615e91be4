"""How long an exported detector takes, and how much memory, by each way to run it: `tf-dcnv2 benchmark serving`.

Every way has a process of its own, so that its memory is its own. The processes take turns.
"""

import importlib.util
import multiprocessing
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tf_dcnv2_cli.console import aligned, log
from tf_dcnv2_cli.errors import UsageError
from tf_dcnv2_cli.timing import take_turns

# What workers are told: to detect once, and at last to tell how much memory that took.
_DETECT, _MEMORY = "detect", "memory"
_KILOBYTES = 1024


class Measured(NamedTuple):
    """What a way takes: seconds of each round, and megabytes on top of the libraries that it imports."""

    seconds: list[float]
    megabytes: float


def measure(detector: Any, height: int, width: int, batch_sizes: list[int], threads: int) -> None:
    """Exports a detector in every way that is installed, and prints a table of times and memory.

    Args:
        detector: a `FasterRCNN` or `MaskRCNN`.
        height, width: size of the images, in pixels.
        batch_sizes: how many images a request has.
        threads: of each way.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = _export(detector, Path(folder))
        rows = []
        for batch_size in batch_sizes:
            measured = _take_turns(files, (batch_size, height, width), threads)
            native = measured["native"].seconds
            for way, (seconds, megabytes) in measured.items():
                ratios = [mine / reference for mine, reference in zip(seconds, native, strict=True)]
                median, ratio = statistics.median(seconds), statistics.median(ratios)
                rows.append([way, str(batch_size), f"{1e3 * median:.0f} ms", f"{ratio:.2f}", f"{megabytes:.0f} MB"])
    print("\n" + "\n".join(aligned([["", "images", "time", "ratio", "memory"], *rows])))


def _export(detector: Any, folder: Path) -> dict[str, str]:
    """The exported files by the way to run them."""
    from tf_dcnv2.export import export_onnx, export_saved_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a preset's weights are random, which does not change times
        native, portable = (export_saved_model(detector, folder / ops, ops) for ops in ("native", "portable"))
    files = {"native": native, "frozen": native, "portable": portable}
    try:
        onnx = export_onnx(detector, folder / "model.onnx")
    except ImportError as error:
        log("onnx", f"not measured: {error}")
        return files
    for runtime in ("onnxruntime", "openvino"):
        if importlib.util.find_spec(runtime):
            files[runtime] = onnx
        else:
            log(runtime, f"not measured: pip install {runtime}")
    return files


def _take_turns(files: dict[str, str], shape: tuple[int, int, int], threads: int) -> dict[str, Measured]:
    """Lets a process for each way detect in turn with the others."""
    spawn = multiprocessing.get_context("spawn")
    workers = {}
    for way, file in files.items():
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(way, file, shape, threads, theirs), daemon=True)
        process.start()
        theirs.close()
        workers[way] = (process, ours)
    try:
        failed = {way: error for way, (_, pipe) in workers.items() if (error := _outcome(pipe))}
        if "native" in failed:
            raise UsageError(f"The native SavedModel, with which the others are compared, fails: {failed['native']}")
        for way, error in failed.items():
            log(way, f"not measured: {error}")
        pipes = {way: pipe for way, (_, pipe) in workers.items() if way not in failed}
        seconds = take_turns({way: partial(_ask, pipe, _DETECT) for way, pipe in pipes.items()})
        return {way: Measured(seconds[way], _ask(pipe, _MEMORY)) for way, pipe in pipes.items()}
    finally:
        for process, _ in workers.values():
            process.terminate()
            process.join()


def _outcome(pipe: Connection) -> str:
    """Why a worker cannot detect; empty if it can."""
    try:
        return pipe.recv()
    except EOFError:
        return "its process was ended, most likely for want of memory; try a smaller --batch or --image"


def _serve(way: str, file: str, shape: tuple[int, int, int], threads: int, pipe: Connection) -> None:
    """What a worker does: loads, warms up, and detects whenever it is told to; at last tells what memory it took."""
    import numpy as np

    batch_size, height, width = shape
    images = np.random.default_rng(0).uniform(0, 255, [batch_size, height, width, 3]).astype("float32")
    image_sizes = np.tile(np.array([[height, width]], np.float32), [batch_size, 1])
    try:
        detect, before = _LOADERS[way](file, threads)
        for _ in range(2):
            detect(images, image_sizes)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        return
    pipe.send("")
    while pipe.recv() == _DETECT:
        detect(images, image_sizes)
        pipe.send(None)
    pipe.send((_peak_kilobytes() - before) / _KILOBYTES)


def _ask(pipe: Connection, what: str) -> Any:
    """Lets a worker do something, and returns its answer."""
    pipe.send(what)
    return pipe.recv()


def _peak_kilobytes() -> int:
    """The most memory that this process has had. What getrusage tells counts that of the process it was forked from."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])


def _load_saved_model(path: str, threads: int) -> tuple[Callable, int]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    from tf_dcnv2.export import load_exported

    before = _peak_kilobytes()
    return load_exported(path, "network"), before


def _load_frozen_saved_model(path: str, threads: int) -> tuple[Callable, int]:
    # TensorFlow then lays kernels out for oneDNN once, as other runtimes do, instead of whenever they are used.
    os.environ["TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"] = "1"
    return _load_saved_model(path, threads)


def _load_onnxruntime(path: str, threads: int) -> tuple[Callable, int]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    before = _peak_kilobytes()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images, image_sizes: session.run(None, {"images": images, "image_sizes": image_sizes}), before


def _load_openvino(path: str, threads: int) -> tuple[Callable, int]:
    import openvino

    from tf_dcnv2.export import openvino_extension

    before = _peak_kilobytes()
    core = openvino.Core()
    core.add_extension(openvino_extension())
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(path, "CPU", settings)
    return lambda images, image_sizes: model({"images": images, "image_sizes": image_sizes}), before


_LOADERS: dict[str, Callable[[str, int], tuple[Callable, int]]] = {
    "native": _load_saved_model,
    "frozen": _load_frozen_saved_model,
    "portable": _load_saved_model,
    "onnxruntime": _load_onnxruntime,
    "openvino": _load_openvino,
}

"""`tf-dcnv2 benchmark`: how fast the ops, and exported detectors, are on this machine."""

import argparse
import os
import platform
import statistics
from collections.abc import Mapping, Sequence

from tf_dcnv2_cli.arguments import positive_int
from tf_dcnv2_cli.console import aligned, log
from tf_dcnv2_cli.errors import UsageError
from tf_dcnv2_cli.timing import Run, take_turns

SUMMARY = "measure the speed of the ops, or of exported detectors, on this machine"

DESCRIPTION = """\
Measures a modulated deformable convolution of 3x3 taps and modulated RoI pooling of 7x7 bins on one feature map: the
custom op ("native"), the same of TensorFlow's own ops ("composite"), and the regular op that they take the place of.
All of them take turns in one run. Prints the median time of each, and how many times as long as the regular op it
takes. The gradients of a deformable op are those of all its inputs, offset and mask included. Takes about a minute.

"serving" measures a whole detector, trained or of a preset with random weights: as SavedModels of the custom ops and of
TensorFlow's own, in ONNX Runtime and in OpenVINO where they are installed. Each has a process of its own, and the
memory is the most that it takes on top of its libraries."""

EXAMPLES = """\
  tf-dcnv2 benchmark
  tf-dcnv2 benchmark --size 100x168x128 --threads 1
  tf-dcnv2 benchmark --dtype bfloat16
  tf-dcnv2 benchmark serving --detector runs/cells
  tf-dcnv2 benchmark serving --detector faster_rcnn_r50_dcnv2 --image 512x800 --batch 1 8"""

CONVOLUTION, POOLING = "3x3 convolution", "RoI pooling"
FORWARD, BOTH = "forward", "forward + backward"

_TAPS, _BINS, _SAMPLES, _STRIDE = 9, 7, 4, 16
# So many times the sampled values of all taps, or of all RoIs, are in memory while the composite op is differentiated.
_COPIES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("what", nargs="?", choices=("ops", "serving"), default="ops", help="(default: ops)")
    parser.add_argument(
        "--size", type=_size, default=(50, 84, 256), metavar="HxWxC", help="of the feature map (default: 50x84x256)"
    )
    parser.add_argument("--rois", type=positive_int, default=256, metavar="N", help="RoIs to pool (default: 256)")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="(default: float32)"
    )
    parser.add_argument("--threads", type=positive_int, metavar="N", help="(default: one for each core)")
    serving = parser.add_argument_group("serving")
    serving.add_argument(
        "--detector",
        default="faster_rcnn_small_dcnv2",
        metavar="RUN|PRESET",
        help="folder of a run, .keras file, or name of a preset (default: %(default)s)",
    )
    serving.add_argument(
        "--image", type=_image, default=(320, 448), metavar="HxW", help="size of the images (default: 320x448)"
    )
    serving.add_argument(
        "--batch", type=positive_int, nargs="+", default=[1, 8], metavar="N", help="images a request (default: 1 8)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measures and prints the table."""
    cores = len(os.sched_getaffinity(0))
    threads = arguments.threads or cores
    if threads > cores:
        raise UsageError(f"--threads: there are {cores} cores for this process. Received: {threads}")
    if arguments.what == "serving":
        _measure_serving(arguments, threads, cores)
        return
    _check_memory(arguments.size, arguments.rois)

    import tensorflow as tf

    from tf_dcnv2.ops import native

    if arguments.threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    height, width, channels = arguments.size
    log("machine", f"{platform.machine()}, {threads} of {cores} cores; TensorFlow {tf.__version__} on the {device}")
    log("problem", f"{height} x {width} pixels, {channels} channels, {arguments.rois} RoIs, {arguments.dtype}")
    implementations = ["native", "composite"]
    try:
        native.load()
    except native.NativeOpsUnavailable as error:
        log("native", f"not measured: {error}")
        implementations.remove("native")
    rows = []
    for subject, make in ((CONVOLUTION, _convolutions), (POOLING, _poolings)):
        contenders = make(arguments, implementations)
        times = {work: take_turns(_runs(contenders, work)) for work in (FORWARD, BOTH)}
        rows += [[f"{subject}, {name}", *_cells(times, name)] for name in contenders]
    print("\n" + "\n".join(aligned([["", FORWARD, "ratio", BOTH, "ratio"], *rows])))


def _measure_serving(arguments: argparse.Namespace, threads: int, cores: int) -> None:
    import tensorflow as tf

    from tf_dcnv2.models import FasterRCNN, MaskRCNN
    from tf_dcnv2_cli import serving_benchmark
    from tf_dcnv2_cli.trained import load_trained

    name = arguments.detector
    models = {preset: model for model in (FasterRCNN, MaskRCNN) for preset in model.presets}
    detector = models[name].from_preset(name, num_classes=80) if name in models else load_trained(name).detector
    height, width = arguments.image
    log("machine", f"{platform.machine()}, {threads} of {cores} cores; TensorFlow {tf.__version__}")
    log("problem", f"{name}, {height} x {width} pixels")
    serving_benchmark.measure(detector, height, width, arguments.batch, threads)


def _image(text: str) -> tuple[int, int]:
    try:
        height, width = map(positive_int, text.lower().split("x"))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"takes HEIGHTxWIDTH, positive, such as 512x800. Received: {text!r}") from None
    return height, width


def _size(text: str) -> tuple[int, int, int]:
    try:
        height, width, channels = map(positive_int, text.lower().split("x"))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            f"takes HEIGHTxWIDTHxCHANNELS, positive, such as 50x84x256. Received: {text!r}"
        ) from None
    return height, width, channels


def _check_memory(size: tuple[int, int, int], rois: int) -> None:
    height, width, channels = size
    sampled = max(_TAPS * (height * width + channels), rois * _BINS**2 * _SAMPLES) * channels
    needed, present = 4 * _COPIES * sampled, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise UsageError(
            f"--size {height}x{width}x{channels} with --rois {rois} needs about {needed / 2**30:.0f} GB of memory, and "
            f"this machine has {present / 2**30:.0f}. Choose a smaller map or fewer RoIs."
        )


def _convolutions(arguments: argparse.Namespace, implementations: Sequence[str]) -> dict[str, tuple]:
    """By contender its op and the tensors that it is differentiated by."""
    import tensorflow as tf

    from tf_dcnv2.ops import deform_conv2d

    height, width, channels = arguments.size
    x = tf.cast(tf.random.stateless_normal([1, height, width, channels], seed=[0, 0]), arguments.dtype)
    kernel = tf.cast(tf.random.stateless_normal([3, 3, channels, channels], seed=[0, 1]) / channels, arguments.dtype)
    offset = 2 * tf.random.stateless_normal([1, height, width, 2 * _TAPS], seed=[0, 2])
    mask = tf.random.stateless_uniform([1, height, width, _TAPS], seed=[0, 3])

    def deformable(implementation):
        return lambda *tensors: deform_conv2d(*tensors, implementation=implementation)

    contenders = {name: (deformable(name), (x, kernel, offset, mask)) for name in implementations}
    return {**contenders, "regular": (lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "SAME"), (x, kernel))}


def _poolings(arguments: argparse.Namespace, implementations: Sequence[str]) -> dict[str, tuple]:
    """The same of RoIs anywhere in the image; the regular op is RoIAlign."""
    import tensorflow as tf

    from tf_dcnv2.ops import deform_roi_pool

    height, width, channels = arguments.size
    features = tf.cast(tf.random.stateless_normal([1, height, width, channels], seed=[1, 0]), arguments.dtype)
    corners = tf.random.stateless_uniform([arguments.rois, 2, 2], seed=[1, 1]) * [height, width] * _STRIDE
    boxes = tf.concat([tf.reduce_min(corners, axis=1), tf.reduce_max(corners, axis=1)], axis=1)
    offset = tf.random.stateless_normal([arguments.rois, _BINS, _BINS, 2], seed=[1, 2])
    mask = tf.random.stateless_uniform([arguments.rois, _BINS, _BINS], seed=[1, 3])
    indices = tf.zeros([arguments.rois], tf.int32)

    def pool(implementation):
        settings = {"output_size": _BINS, "spatial_scale": 1 / _STRIDE, "implementation": implementation}
        return lambda features, *deformation: deform_roi_pool(features, boxes, indices, *deformation, **settings)

    contenders = {name: (pool(name), (features, offset, mask)) for name in implementations}
    return {**contenders, "regular": (pool("auto"), (features,))}


def _runs(contenders: Mapping[str, tuple], work: str) -> dict[str, Run]:
    """By contender, a function that does the work once."""
    import tensorflow as tf

    def differentiated(op):
        def both(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                y = op(*tensors)
            return [y, *map(tf.convert_to_tensor, tape.gradient(y, tensors))]

        return both

    def runner(op, tensors):
        function = tf.function(op if work == FORWARD else differentiated(op), autograph=False)
        graph = function.get_concrete_function(*tensors)
        return lambda: (graph(*tensors), tf.test.experimental.sync_devices())

    return {name: runner(op, tensors) for name, (op, tensors) in contenders.items()}


def _cells(times: Mapping[str, Mapping[str, Sequence[float]]], name: str) -> list[str]:
    """For each work the median time, and the median of each round's ratio to the regular op."""
    cells = []
    for of_work in times.values():
        ratios = [mine / regular for mine, regular in zip(of_work[name], of_work["regular"], strict=True)]
        milliseconds = 1e3 * statistics.median(of_work[name])
        cells += [f"{milliseconds:.{1 if milliseconds < 100 else 0}f} ms", f"{statistics.median(ratios):.2f}"]
    return cells

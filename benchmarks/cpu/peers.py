"""Deformable convolution in other inference engines, where they are installed.

They want channels first. Their data are brought into that layout once, outside of what is measured, and the kernel is a
constant of their models, which leaves them free to prepare it.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.cpu.conv_functions import ConvData, Run

ONNXRUNTIME = "onnxruntime"
OPENVINO = "OpenVINO"
NCNN = "ncnn"
ENGINES = (ONNXRUNTIME, OPENVINO, NCNN)

# The first version of ONNX' operators with DeformConv, and the one that every later runtime reads.
_ONNX_OPSET = 19


class Unavailable(Exception):
    """The engine is not installed or cannot run the operator; the message says which in a few words."""


def peer(name: str, data: ConvData, threads: int) -> Run:
    """Prepares an engine's forward pass; its one output is channels-last again and not part of the measured copy.

    Args:
        name: one of `ENGINES`.
        data: what to compute; float32.
        threads: of the engine.

    Raises:
        Unavailable: it cannot take part.
    """
    makers: dict[str, Callable] = {ONNXRUNTIME: _onnxruntime, OPENVINO: _openvino, NCNN: _ncnn}
    channels_first = {
        name: np.ascontiguousarray(np.moveaxis(np.asarray(getattr(data, name)), -1, 1))
        for name in ("x", "offset", "mask")
    }
    # (kh, kw, C, O) -> (O, C, kh, kw)
    kernel = np.ascontiguousarray(np.transpose(np.asarray(data.kernel), (3, 2, 0, 1)))
    try:
        infer = makers[name](channels_first, kernel, threads)
    except ImportError as error:
        raise Unavailable("not installed") from error
    # A view: nothing is copied.
    return lambda: [np.moveaxis(infer(), 1, -1)]


def _onnxruntime(inputs: dict[str, np.ndarray], kernel: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    operator = helper.make_node(
        "DeformConv", ["x", "kernel", "offset", "", "mask"], ["y"], kernel_shape=kernel.shape[2:], pads=[1] * 4
    )
    graph = helper.make_graph(
        [operator],
        "deformable_convolution",
        [value(name, array.shape) for name, array in inputs.items()],
        [value("y", inputs["x"].shape)],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    opsets = [helper.make_opsetid("", _ONNX_OPSET)]
    # onnx names its own newest file format unless told otherwise, which an older runtime refuses.
    model = helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait for work in a loop would slow down whoever comes next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # What goes wrong comes as an exception.
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented as error:
        raise Unavailable(f"{onnxruntime.__version__} has no DeformConv") from error
    return lambda: session.run(None, inputs)[0]


def _openvino(inputs: dict[str, np.ndarray], kernel: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    import openvino
    from openvino import opset8

    x, offset, mask = (opset8.parameter(inputs[name].shape, np.float32, name=name) for name in ("x", "offset", "mask"))
    y = opset8.deformable_convolution(
        *(x, offset, opset8.constant(kernel)),
        strides=[1, 1],
        pads_begin=[1, 1],
        pads_end=[1, 1],
        dilations=[1, 1],
        mask=mask,
        bilinear_interpolation_pad=True,
    )
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # On processors that have it, bfloat16 would be chosen.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = openvino.Model([y], [x, offset, mask], "deformable_convolution")
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    arrays = [inputs[name] for name in ("x", "offset", "mask")]
    return lambda: request.infer(arrays, share_inputs=True)[0]


def _ncnn(inputs: dict[str, np.ndarray], kernel: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in ("use_vulkan_compute", "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(net.opt, option, False)
    # Of its layers: 0 outputs, 1 and 11 window, 4 padding on all sides, 6 size of the weights.
    settings = f"0={len(kernel)} 1={kernel.shape[3]} 11={kernel.shape[2]} 4=1 6={kernel.size}"
    layers = [
        *(f"Input {name} 0 1 {name}" for name in inputs),
        f"DeformableConv2D y 3 1 {' '.join(inputs)} y {settings}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        # A magic number, how many layers and tensors there are, and the layers.
        description, weights = Path(folder, "net.param"), Path(folder, "net.bin")
        description.write_text("\n".join(["7767517", f"{len(layers)} {len(layers)}", *layers, ""]))
        weights.write_bytes(bytes(4) + kernel.tobytes())  # the first four say that they are float32
        if net.load_param(str(description)) or net.load_model(str(weights)):
            raise Unavailable(f"{ncnn.__version__} has no DeformableConv2D")
    # It takes one image at a time. Its matrices borrow the arrays' memory.
    images = {name: np.ascontiguousarray(array[0]) for name, array in inputs.items()}

    def infer() -> np.ndarray:
        extractor = net.create_extractor()
        for name, image in images.items():
            extractor.input(name, ncnn.Mat(image))
        _, y = extractor.extract("y")
        return np.array(y)[np.newaxis]

    return infer

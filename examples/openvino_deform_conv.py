"""Teaches OpenVINO to read deformable convolutions in ONNX files.

OpenVINO computes them, but its reader of ONNX files has no rule for `DeformConv` (2026.4). This is one:

    core = openvino.Core()
    core.add_extension(deform_conv_extension())
    detect = core.compile_model("cells.onnx", "CPU")
"""

from typing import Any

from openvino import opset8
from openvino.frontend.onnx import ConversionExtension


def deform_conv_extension() -> ConversionExtension:
    """For `openvino.Core.add_extension`."""
    return ConversionExtension("DeformConv", _convert)


def _convert(node: Any) -> list[Any]:
    x, kernel, offset = (node.get_input(index) for index in range(3))
    pads = node.get_attribute("pads")
    y = opset8.deformable_convolution(
        x,
        offset,
        kernel,
        node.get_attribute("strides"),
        pads[:2],
        pads[2:],
        node.get_attribute("dilations"),
        # Input 3 would be the bias, which the files do not have.
        mask=node.get_input(4) if node.get_input_size() > 4 else None,
        group=node.get_attribute("group"),
        deformable_group=node.get_attribute("offset_group"),
        bilinear_interpolation_pad=True,  # samples just outside of the map count in part
    )
    return y.outputs()

"""A rule for OpenVINO's reader of ONNX files, which has none for `DeformConv` (2026.4)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openvino.frontend.onnx import ConversionExtension


def openvino_extension() -> "ConversionExtension":
    """Lets OpenVINO read the deformable convolutions in files that `export_onnx` wrote.

    OpenVINO has the operation, but no rule to read it from ONNX files.

    Returns:
        What `openvino.Core.add_extension` takes.

    Raises:
        ImportError: OpenVINO is not installed.

    Example:
        >>> core = openvino.Core()
        >>> core.add_extension(openvino_extension())
        >>> detect = core.compile_model("cells.onnx", "CPU")
    """
    from openvino.frontend.onnx import ConversionExtension

    return ConversionExtension("DeformConv", _convert)


def _convert(node: Any) -> list[Any]:
    from openvino import opset8

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

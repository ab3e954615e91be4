"""`Dcnv2>DeformConv2D` as ONNX' DeformConv."""

from collections.abc import Sequence
from typing import Any

from tf_dcnv2.export.onnx.nodes import Nodes
from tf_dcnv2.ops.window import Window

# tf2onnx knows operator sets up to one that has no DeformConv yet: until the set is raised the node has this domain.
PENDING_DOMAIN = "tf_dcnv2.pending"


def convert_deform_conv2d(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """The handler of tf2onnx for the op."""
    nodes = Nodes(graph, node)
    x, kernel, offset, mask = map(nodes.as_float, node.input)
    window = _window(node)
    rows, columns, group_channels, _ = graph.get_shape(node.input[1])
    _, *size, channels = graph.get_shape(node.input[0])

    x = nodes("Transpose", x, perm=[0, 3, 1, 2])
    pads = _fixed_padding(window, size, (rows, columns))
    if pads is None:
        x = _pad(nodes, x, window, (rows, columns))
        pads = [0, 0, 0, 0]
    # Channels of offset and mask have the same order in ONNX: (deformable group, tap, (dy, dx)).
    operands = [x, nodes("Transpose", kernel, perm=[3, 2, 0, 1])]
    operands += [nodes("Transpose", offset, perm=[0, 3, 1, 2]), ""]  # no bias: the layer adds it
    if node.get_attr_value("use_mask"):
        operands.append(nodes("Transpose", mask, perm=[0, 3, 1, 2]))
    y = nodes(
        "DeformConv",
        *operands,
        domain=PENDING_DOMAIN,
        dilations=window.dilations,
        group=channels // group_channels,
        kernel_shape=[rows, columns],
        offset_group=window.deformable_groups,
        pads=pads,
        strides=window.strides,
    )
    nodes.finish(nodes("Transpose", y, perm=[0, 2, 3, 1]))


def _window(node: Any) -> Window:
    attributes = ("strides", "explicit_paddings", "dilations", "deformable_groups")
    values = {name: node.get_attr_value(name, []) for name in attributes}
    return Window(padding=node.get_attr_value("padding").decode(), **values)


def _fixed_padding(window: Window, size: Sequence[int], kernel_size: Sequence[int]) -> list[int] | None:
    """Pixels (top, left, bottom, right), or `None` where they depend on the size of the image."""
    if max(window.strides) == 1 or window.padding != "SAME":
        size = (1, 1)  # any gives the same
    elif min(size) < 0:
        return None
    (top, bottom), (left, right) = window.padding_pixels(size, kernel_size)
    return [top, left, bottom, right]


def _pad(nodes: Nodes, x: str, window: Window, kernel_size: Sequence[int]) -> str:
    """Pads `x` `(B, C, H, W)` with zeros by TensorFlow's rule "SAME", which samples outside of it are too."""
    size = nodes("Slice", nodes("Shape", x), [2], [4], [0])
    strides = list(window.strides)
    extent = [(taps - 1) * dilation + 1 for taps, dilation in zip(kernel_size, window.dilations, strict=True)]
    outputs = nodes("Div", nodes("Add", size, [stride - 1 for stride in strides]), strides)
    covered = nodes("Add", nodes("Mul", nodes("Sub", outputs, [1, 1]), strides), extent)
    missing = nodes("Max", nodes("Sub", covered, size), [0, 0])
    before = nodes("Div", missing, [2, 2])
    after = nodes("Sub", missing, before)
    return nodes("Pad", x, nodes.shape(0, 0, before, 0, 0, after))

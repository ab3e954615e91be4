"""`Dcnv2>DeformRoiPool` as ONNX' RoiAlign.

Shapes: N RoIs, P x Q bins an RoI, L feature levels of C channels.
"""

import dataclasses
from typing import Any

import numpy as np
from onnx import TensorProto

from tf_dcnv2.export.onnx.nodes import Nodes

# Pixels by which the size of a bin may be wrong, in images of up to 8192 pixels, where it is the difference of two
# float32 corners. A bin of whole pixels would have a sample more where these decide how many it has.
_ROUNDING = 2.0**-10


def convert_deform_roi_pool(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """The handler of tf2onnx for the op.

    Raises:
        ValueError: ONNX has nothing for it.
    """
    if node.get_attr_value("convention") != b"aligned":
        raise ValueError(
            'RoI pooling with convention="mxnet" has no counterpart in ONNX, whose RoiAlign neither rounds boxes nor '
            "leaves samples out of an average."
        )
    nodes = Nodes(graph, node)
    count = node.get_attr_value("L")
    maps = [nodes("Transpose", nodes.as_float(level), perm=[0, 3, 1, 2]) for level in node.input[:count]]
    boxes, images, levels, offset, mask = node.input[count : count + 5]
    boxes, offset, mask = map(nodes.as_float, (boxes, offset, mask))
    scales, gamma = (node.inputs[index].get_tensor_value(as_list=False) for index in (-2, -1))
    rows, columns = node.get_attr_value("output_size")
    channels = graph.get_shape(node.output[0])[3]
    samples = node.get_attr_value("sampling_ratio")
    align = RoiAlign(nodes, maps, scales.tolist(), samples)
    if node.get_attr_value("use_offset"):
        boxes = _bins(nodes, boxes, offset, float(gamma), rows, columns, shrink=0.0 if samples else _ROUNDING)
        images, levels = (_for_each_bin(nodes, index, rows * columns) for index in (images, levels))
        pooled = nodes("Reshape", align(boxes, images, levels, (1, 1)), [-1, rows, columns, channels])
    else:
        pooled = nodes("Transpose", align(boxes, images, levels, (rows, columns)), perm=[0, 2, 3, 1])
    if node.get_attr_value("use_mask"):
        pooled = nodes("Mul", pooled, nodes("Unsqueeze", mask, [3]))
    nodes.finish(pooled)


def _bins(nodes: Nodes, boxes: str, offset: str, gamma: float, rows: int, columns: int, shrink: float) -> str:
    """`(N*P*Q, 4)`: each bin of an RoI, where its offset moves it and `shrink` pixels smaller, as an RoI of one bin."""
    cells = np.stack(np.meshgrid(np.arange(rows) / rows, np.arange(columns) / columns, indexing="ij"), axis=-1)
    near, far = nodes("Split", boxes, [2, 2], outputs=2, axis=1)
    near, size = (nodes("Unsqueeze", corner, [1, 2]) for corner in (near, nodes("Sub", far, near)))
    start = nodes("Add", near, nodes("Mul", nodes("Add", nodes("Mul", offset, gamma), cells), size))
    end = nodes("Add", start, nodes("Mul", size, np.array([1 / rows, 1 / columns])))
    end = nodes("Sub", end, shrink) if shrink else end
    return nodes("Reshape", nodes("Concat", start, end, axis=3), [-1, 4])


def _for_each_bin(nodes: Nodes, index: str, bins: int) -> str:
    """`(N,)` indices of RoIs as those `(N * bins,)` of their bins."""
    return nodes("Reshape", nodes("Tile", nodes("Unsqueeze", index, [1]), [1, bins]), [-1])


@dataclasses.dataclass(frozen=True)
class RoiAlign:
    """RoiAlign for RoIs of several levels.

    Attributes:
        nodes: adds the nodes.
        features: `(B, C, H, W)` of each level.
        scales: feature pixels per image pixel of each level.
        samples: a bin and axis; 0 takes the bin's size in feature pixels.
    """

    nodes: Nodes
    features: list[str]
    scales: list[float]
    samples: int

    def __call__(self, boxes: str, images: str, levels: str, output_size: tuple[int, int]) -> str:
        """`(N, C, *output_size)` of `boxes` `(N, 4)`, each of its own image and level.

        All boxes are pooled from every level, and one result of each is taken: as many from each level as there are
        would be tensors of sizes that depend on the data, which TensorRT takes for fewer operators. Boxes of other
        levels are empty there, so that a wide one costs little on a fine level.
        """
        nodes = self.nodes
        boxes = nodes("Gather", boxes, [1, 0, 3, 2], axis=1)  # x before y
        images = nodes("Cast", images, to=TensorProto.INT64)
        if len(self.features) == 1:
            return self._pool(0, boxes, images, output_size)
        levels = nodes("Cast", levels, to=TensorProto.INT64)
        pooled: Any = 0.0
        for level in range(len(self.features)):
            here = nodes("Equal", levels, level)
            on_level = nodes("Where", nodes("Unsqueeze", here, [1]), boxes, 0.0)
            found = self._pool(level, on_level, images, output_size)
            pooled = nodes("Where", nodes("Unsqueeze", here, [1, 2, 3]), found, pooled)
        return pooled

    def _pool(self, level: int, boxes: str, images: str, output_size: tuple[int, int]) -> str:
        return self.nodes(
            "RoiAlign",
            self.features[level],
            boxes,
            images,
            coordinate_transformation_mode="half_pixel",
            mode="avg",
            output_height=output_size[0],
            output_width=output_size[1],
            sampling_ratio=self.samples,
            spatial_scale=self.scales[level],
        )

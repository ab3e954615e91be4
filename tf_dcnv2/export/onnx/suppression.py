"""`CombinedNonMaxSuppression` as ONNX' NonMaxSuppression.

tf2onnx has a conversion of its own, for boxes that are the same for all classes only.

Shapes: B images, N boxes of an image, C classes, K boxes kept.
"""

from typing import Any

from onnx import TensorProto

from tf_dcnv2.export.onnx.nodes import Nodes


def convert_combined_nms(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """The handler of tf2onnx for the op."""
    nodes = Nodes(graph, node)
    boxes, scores, *_, iou_threshold, score_threshold = node.input
    per_class, kept = (int(node.inputs[index].get_tensor_value()) for index in (2, 3))
    classes = graph.get_shape(scores)[2]
    if node.get_attr_value("pad_per_class", False):
        kept = min(kept, per_class * classes)

    # One box for each class, or one for all: (B, N, C, 4) both.
    all_classes = nodes("Expand", boxes, [1, 1, classes, 1])
    boxes = nodes("Transpose", all_classes, perm=[0, 2, 1, 3])
    scores = nodes("Transpose", scores, perm=[0, 2, 1])
    batch, count = nodes.size(scores, 0), nodes.size(scores, 2)
    # Classes of an image are images of a batch to ONNX, which has the same boxes for all classes.
    of_class = nodes("Reshape", scores, nodes.shape(-1, 1, count))
    selected = nodes(
        "NonMaxSuppression",
        nodes("Reshape", boxes, nodes.shape(-1, count, 4)),
        of_class,
        per_class,
        iou_threshold,
        score_threshold,
    )
    none = float("-inf")
    suppressed = nodes(
        "ScatterND",
        nodes("Expand", none, nodes("Shape", of_class)),
        selected,
        nodes("GatherND", of_class, selected),
    )
    # K slots more than there are candidates, so that the best K always exist.
    missing = nodes("Expand", none, nodes.shape(batch, kept))
    candidates = nodes("Concat", nodes("Reshape", suppressed, nodes.shape(batch, -1)), missing, axis=1)
    best, place = nodes("TopK", candidates, [kept], outputs=2, axis=1)
    used = nodes("Greater", best, none)
    place = nodes("Where", used, place, 0)
    best_boxes = nodes(
        "GatherND", nodes("Reshape", boxes, nodes.shape(batch, -1, 4)), nodes("Unsqueeze", place, [2]), batch_dims=1
    )
    if node.get_attr_value("clip_boxes", True):
        best_boxes = nodes("Clip", best_boxes, 0.0, 1.0)
    nodes.finish(
        nodes("Where", nodes("Unsqueeze", used, [2]), best_boxes, 0.0),
        nodes("Where", used, best, 0.0),
        nodes("Where", used, nodes("Div", place, count), 0),
        nodes("ReduceSum", nodes("Cast", used, to=TensorProto.INT64), [1], keepdims=0),
    )

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.support.onnx_files import run_onnx
from tf_dcnv2.export.onnx.conversion import convert

IMAGES, BOXES, CLASSES = 3, 12, 4


def suppress(boxes: tf.Tensor, scores: tf.Tensor, **arguments) -> dict[str, tf.Tensor]:
    arguments = {
        "max_output_size_per_class": 3,
        "max_total_size": 8,
        "iou_threshold": 0.4,
        "score_threshold": 0.2,
        "clip_boxes": False,
        **arguments,
    }
    return tf.image.combined_non_max_suppression(boxes, scores, **arguments)._asdict()


def run(inputs: dict[str, np.ndarray], path: Path, **arguments) -> dict[str, np.ndarray]:
    signature = [
        tf.TensorSpec([None, None, None, 4], name="boxes"),
        tf.TensorSpec([None, None, CLASSES], name="scores"),
    ]
    model = convert(lambda boxes, scores: suppress(boxes, scores, **arguments), signature, opset=19)
    path.write_bytes(model.SerializeToString())
    return run_onnx(str(path), inputs)


def random_boxes(rng: np.random.Generator, boxes_per_class: int) -> dict[str, np.ndarray]:
    corner = rng.uniform(0, 1, [IMAGES, BOXES, boxes_per_class, 2])
    boxes = np.concatenate([corner, corner + rng.uniform(0.3, 0.9, corner.shape)], axis=-1)
    scores = rng.permutation(np.linspace(0, 1, IMAGES * BOXES * CLASSES)).reshape([IMAGES, BOXES, CLASSES])
    scores[2] = 0.1  # an image without detections
    return {"boxes": boxes.astype("float32"), "scores": scores.astype("float32")}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"clip_boxes": True},
        {"max_total_size": 200},  # more than there are candidates
        {"max_total_size": 200, "pad_per_class": True},
        {"max_output_size_per_class": 100, "iou_threshold": 1.0},
    ],
)
@pytest.mark.parametrize("boxes_per_class", [1, CLASSES])
def test_suppression_keeps_the_same_boxes_in_the_same_order(boxes_per_class, arguments, tmp_path, rng):
    inputs = random_boxes(rng, boxes_per_class)
    expected = suppress(**inputs, **arguments)
    found = run(inputs, tmp_path / "nms.onnx", **arguments)
    assert expected["valid_detections"][0] > 5 and expected["valid_detections"][2] == 0
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)

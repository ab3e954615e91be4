import os
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from tests.support.detectors import CATEGORY_IDS, MASK_HEAD, make_batch, tiny_config
from tests.support.onnx_files import operators, run_onnx, signature
from tf_dcnv2.data import prepare_image, read_image
from tf_dcnv2.export.onnx import export_onnx
from tf_dcnv2.models import FasterRCNN

PHOTOGRAPHS = Path(os.environ.get("TF_DCNV2_SHARED", "../shared")) / "data/coco_mini/val2017"

# What detectors may be made of: operators that TensorRT 10 reads from ONNX files.
OPERATORS = set(
    """
    Add And Cast Ceil Concat Constant ConstantOfShape Conv ConvTranspose DeformConv DepthToSpace Div Equal Exp Expand
    Gather GatherElements GatherND Gemm Greater GreaterOrEqual Identity Less LessOrEqual MatMul Max MaxPool Min Mul Neg
    NonMaxSuppression NonZero Not Or Pad Range ReduceMax ReduceMin ReduceProd ReduceSum Relu Reshape RoiAlign ScatterND
    Shape Sigmoid Size Slice Softmax SpaceToDepth Split Sqrt Squeeze Sub Tile TopK Transpose Unsqueeze Where
    """.split()  # noqa: SIM905, a word list reads better
)


def with_distinct_scores(detector: FasterRCNN) -> FasterRCNN:
    """Random weights for the layers that start at or next to zero, so that what is detected has an order.

    Offsets are of about a pixel: with far larger ones a detector would magnify what rounding changes.
    """
    for seed, variable in enumerate(detector.variables):
        if any(name in variable.path for name in ("objectness", "classifier", "regressor", "rpn/boxes", "offset")):
            deviation = 1 / np.sqrt(np.prod(variable.shape[:-1]))
            variable.assign(keras.random.normal(variable.shape, stddev=deviation, seed=seed))
    return detector


def small_detector(neck: str = "fpn", dcn: str = "v2", masks: bool = False, **overrides) -> FasterRCNN:
    keras.utils.set_random_seed(0)
    overrides = {"box_head.score_threshold": 0.0, **overrides}
    if masks:
        overrides["mask_head"] = {**MASK_HEAD, "pooling": dcn}
    return with_distinct_scores(tiny_config(neck, dcn, **overrides).build(CATEGORY_IDS))


def in_order_of(found: dict, expected: dict) -> dict:
    """The detections `found` in the order of those expected: rounding may swap two whose scores hardly differ."""
    places = [np.concatenate([one["boxes"], 1e3 * one["classes"][..., None]], axis=2) for one in (expected, found)]
    order = np.tile(np.arange(places[0].shape[1]), (len(places[0]), 1))
    for image, count in enumerate(expected["num_detections"]):
        distances = np.linalg.norm(places[0][image, :count, None] - places[1][image, None, :count], axis=-1)
        order[image, :count] = np.argmin(distances, axis=1)
        assert len(set(order[image])) == len(order[image])
    images = np.arange(len(order))[:, None]
    return {name: value if name == "num_detections" else value[images, order] for name, value in found.items()}


def assert_the_same(found: dict, expected: dict, *, boxes: float = 1e-3, scores: float = 1e-5) -> None:
    """Compares detections; convolutions add in another order, which moves boxes of a hundred pixels by 1e-5 or so."""
    assert set(found) == set(expected)
    expected = {name: np.asarray(value) for name, value in expected.items()}
    np.testing.assert_array_equal(found["num_detections"], expected["num_detections"])
    assert np.all(np.diff(found["scores"]) <= 0)
    found = in_order_of(found, expected)
    tolerances = {"boxes": boxes, "scores": scores, "masks": 10 * scores}  # in pixels, and in 0..1
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerances.get(name, 0), err_msg=name)
        assert found[name].dtype == value.dtype


CASES = [
    ("fpn", "v2", True),
    pytest.param("c5", "none", False, marks=pytest.mark.slow),
    pytest.param("fpn", "v1", False, marks=pytest.mark.slow),
    pytest.param("fpn", "none", True, marks=pytest.mark.slow),
    pytest.param("c5", "v1", True, marks=pytest.mark.slow),
    pytest.param("c5", "v2", False, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("neck", "dcn", "masks"), CASES)
def test_one_file_detects_what_the_detector_does_on_batches_and_images_of_any_size(neck, dcn, masks, tmp_path):
    detector = small_detector(neck, dcn, masks)
    path = export_onnx(detector, tmp_path / "detector.onnx")
    onnx.checker.check_model(path, full_check=True)
    assert {domain for domain, _ in operators(path)} == {""}
    kinds = {kind for _, kind in operators(path)}
    assert kinds <= OPERATORS
    assert {"RoiAlign", "NonMaxSuppression"} <= kinds
    assert ("DeformConv" in kinds) == (dcn != "none")
    for height, width in [(96, 128), (61, 75), (97, 64)]:
        inputs, _ = make_batch(height, width)
        expected = detector(inputs)
        assert int(expected["num_detections"][0]) > 10
        assert_the_same(run_onnx(path, inputs), expected)
        first = {name: value[:1] for name, value in inputs.items()}
        assert_the_same(run_onnx(path, first), {name: value[:1] for name, value in expected.items()})

    # An image without pixels, in which there is nothing, not even for the mask head.
    nothing = run_onnx(
        path, {"images": np.zeros([1, 64, 64, 3], "float32"), "image_sizes": np.zeros([1, 2], "float32")}
    )
    assert int(nothing["num_detections"][0]) == 0
    assert np.all(nothing["classes"] == -1) and not np.any(nothing["boxes"])
    assert not np.any(nothing.get("masks", 0))

    sizes = {"boxes": [100, 4], "scores": [100], "classes": [100], "num_detections": [], "masks": [100, 8, 8]}
    types = {"classes": "INT32", "num_detections": "INT32"}
    assert signature(path) == {
        "images": ("FLOAT", ["batch", "images_height", "images_width", 3]),
        "image_sizes": ("FLOAT", ["batch", 2]),
        **{name: (types.get(name, "FLOAT"), ["batch", *sizes[name]]) for name in expected},
    }
    assert [output.name for output in onnx.load(path).graph.output] == list(expected)


def some_photographs(count: int) -> list[Path]:
    found = sorted(PHOTOGRAPHS.glob("*.jpg"))[:count]
    if len(found) < count:
        pytest.skip(f"no photographs in {PHOTOGRAPHS}")
    return found


@pytest.mark.slow
def test_a_full_size_detector_detects_the_same_on_photographs(tmp_path):
    keras.utils.set_random_seed(0)
    detector = FasterRCNN.from_preset("faster_rcnn_r50_dcnv2_800", num_classes=80, weights=None)
    detector = with_distinct_scores(detector)
    path = export_onnx(detector, tmp_path / "detector.onnx")
    for photograph in some_photographs(2):
        inputs = prepare_image(read_image(photograph), short_side=320, max_side=533)
        # Fifty layers with random weights magnify what rounding changes.
        assert_the_same(run_onnx(path, inputs), detector(inputs), boxes=2e-2, scores=2e-4)


@pytest.mark.slow
def test_a_detector_with_the_settings_of_other_projects_detects_the_same(tmp_path):
    settings = {
        "pool_branch_per_level": True,
        "pool_mask_branch": True,
        "sampling_ratio": 0,
        "class_agnostic": True,
        "smallest_side": 0.01,
        "delta_limits": "both",
    }
    settings = {f"box_head.{name}": value for name, value in settings.items()}
    detector = small_detector("fpn", "v2", masks=True, **settings, **{"rpn.anchor_stride": "image"})
    path = export_onnx(detector, tmp_path / "detector.onnx")
    # A branch for each level is given the RoIs of its level.
    assert {kind for _, kind in operators(path)} - OPERATORS == {"Compress", "ScatterElements"}
    for height, width in [(96, 128), (61, 75)]:
        inputs, _ = make_batch(height, width)
        assert_the_same(run_onnx(path, inputs), detector(inputs))


@pytest.mark.slow
def test_a_detector_in_openvino(tmp_path):
    openvino = pytest.importorskip("openvino")
    from tf_dcnv2.export import openvino_extension

    detector = small_detector("c5", "v2")
    path = export_onnx(detector, tmp_path / "detector.onnx")
    core = openvino.Core()
    core.add_extension(openvino_extension())
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for height, width in [(96, 128), (61, 75)]:
        inputs, _ = make_batch(height, width)
        found = compiled({name: value.numpy() for name, value in inputs.items()})
        assert_the_same({name: found[name] for name in detector(inputs)}, detector(inputs))

import collections
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from tests.export.conftest import NAMES, make_detector, pictures
from tests.support.detectors import CATEGORY_IDS, MASK_HEAD, MIMIC, make_batch, tiny_config
from tests.support.eagerly import run_eagerly
from tf_dcnv2.export import export_saved_model, load_exported, op_library_path
from tf_dcnv2.models import FeatureMimicking

OUTPUTS = {"boxes", "scores", "classes", "num_detections"}


# Loading takes longer than detecting.
loaded = functools.cache(load_exported)


@functools.cache
def meta_graph(path: str) -> meta_graph_pb2.MetaGraphDef:
    with open(f"{path}/saved_model.pb", "rb") as file:
        return saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0]


def signature(path: str, name: str = "serving_default") -> tuple[dict, dict]:
    """Type and shape of each input and output that a signature of a SavedModel has, by name."""
    definition = meta_graph(path).signature_def[name]
    return tuple(
        {name: (tf.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape)) for name, info in infos.items()}
        for infos in (definition.inputs, definition.outputs)
    )


def node_types(path: str) -> collections.Counter:
    """How often each op occurs in a SavedModel, in its functions too."""
    graph = meta_graph(str(path)).graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return collections.Counter(node.op for node in nodes)


def custom_ops(path: str) -> set[str]:
    return {op for op in node_types(path) if op.startswith("Dcnv2>")}


@pytest.mark.parametrize("ops", ["native", "portable"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("serving_default", {"images": (tf.uint8, [None, None, None, 3]), "image_sizes": (tf.int32, [None, 2])}),
        ("serving_bytes", {"image_bytes": (tf.string, [None])}),
        ("network", {"images": (tf.float32, [None, None, None, 3]), "image_sizes": (tf.float32, [None, 2])}),
    ],
)
def test_the_signatures_name_inputs_and_outputs(exported, ops, name, expected):
    inputs, outputs = signature(exported[ops], name)
    assert {name: (dtype, shape.as_list()) for name, (dtype, shape) in inputs.items()} == expected
    assert set(outputs) == OUTPUTS


@pytest.mark.parametrize(("height", "width"), [(96, 128), (64, 70)])
@pytest.mark.parametrize("ops", ["native", "portable"])
def test_the_network_of_an_export_detects_what_a_call_of_the_detector_does(detector, exported, ops, height, width):
    inputs, _ = make_batch(height, width)
    expected = detector(inputs)
    assert int(expected["num_detections"][0]) > 0
    detections = loaded(exported[ops], "network")(**inputs)
    assert set(detections) == OUTPUTS
    for name, value in expected.items():
        # The implementations add up in different orders; boxes are of the order of 100 pixels.
        np.testing.assert_allclose(detections[name], value, rtol=1e-4, atol=1e-3, err_msg=name)


def assert_detected(received: dict, index: int, expected: dict) -> None:
    """Checks one image of a batch to the accuracy that is promised: 1e-3 pixels, and 1e-5 of a score."""
    count = len(expected["scores"])
    assert count > 0 and int(received["num_detections"][index]) == count
    np.testing.assert_array_equal(received["classes"][index, :count], expected["classes"])
    np.testing.assert_allclose(received["boxes"][index, :count], expected["boxes"], atol=1e-3)
    np.testing.assert_allclose(received["scores"][index, :count], expected["scores"], atol=1e-5)


@pytest.mark.parametrize("ops", ["native", "portable"])
def test_images_of_any_size_are_detected_as_by_detect(detector, exported, ops):
    images = pictures((50, 80), (131, 70), (97, 97))
    batch = np.zeros([3, 131, 97, 3], np.uint8)
    for index, image in enumerate(images):
        batch[index, : image.shape[0], : image.shape[1]] = image
    received = loaded(exported[ops])(batch, [image.shape[:2] for image in images])
    for index, expected in enumerate(detector.detect(images, batch_size=3)):
        assert_detected(received, index, expected)


@pytest.mark.parametrize("ops", ["native", "portable"])
def test_image_files_are_detected_as_by_detect_turned_upright(detector, exported, ops, tmp_path):
    files = [tmp_path / "turned.jpg", tmp_path / "upright.png"]
    for file, image in zip(files, pictures((60, 90), (131, 70)), strict=True):
        exif = Image.Exif()
        exif[0x0112] = 6 if file.suffix == ".jpg" else 1
        Image.fromarray(image).save(file, exif=exif)
    received = loaded(exported[ops], "serving_bytes")([file.read_bytes() for file in files])
    for index, expected in enumerate(detector.detect(files, batch_size=2)):
        assert_detected(received, index, expected)


def test_the_model_brings_the_names_of_its_classes(exported):
    with open(f"{exported['native']}/assets.extra/labels.json", encoding="utf-8") as file:
        assert {int(category_id): name for category_id, name in json.load(file).items()} == NAMES


def test_labels_of_classes_that_the_detector_does_not_have_are_refused(detector, tmp_path):
    with pytest.raises(ValueError, match=r"labels must be names by category id, of \[3, 7, 90\]. Received: \[1\]"):
        export_saved_model(detector, tmp_path / "model", labels={1: "one", 3: "three"})
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("ops", ["native", "portable"])
def test_the_requests_that_warm_a_model_up_are_answered(exported, ops):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    file = f"{exported[ops]}/assets.extra/tf_serving_warmup_requests"
    requests = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(file)
    ]
    assert [request.model_spec.signature_name for request in requests] == ["serving_default", "serving_bytes"]
    for request in requests:
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        expected, _ = signature(exported[ops], request.model_spec.signature_name)
        assert set(inputs) == set(expected)
        for name, array in inputs.items():
            dtype, shape = expected[name]
            assert tf.as_dtype(request.inputs[name].dtype) == dtype and shape.is_compatible_with(array.shape)
        assert set(loaded(exported[ops], request.model_spec.signature_name)(**inputs)) == OUTPUTS


def test_only_the_native_graph_holds_custom_ops(exported):
    assert custom_ops(exported["native"]) == {"Dcnv2>DeformConv2D", "Dcnv2>DeformRoiPool"}
    assert not custom_ops(exported["portable"])


def test_exported_detectors_run_without_this_package(detector, exported, tmp_path):
    inputs, _ = make_batch()
    np.savez(tmp_path / "inputs.npz", **{name: value.numpy() for name, value in inputs.items()})
    code = f"""
import sys, numpy as np, tensorflow as tf
inputs = {{name: tf.constant(array) for name, array in np.load("inputs.npz").items()}}
def detect(path, output):
    detections = tf.saved_model.load(path).signatures["network"](**inputs)
    np.savez(output, **{{name: value.numpy() for name, value in detections.items()}})
detect({exported["portable"]!r}, "portable.npz")  # before the custom ops are there
tf.load_op_library({op_library_path()!r})
detect({exported["native"]!r}, "native.npz")
assert not any(name.startswith("tf_dcnv2") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    expected = detector(inputs)["scores"]
    for ops in ("native", "portable"):
        detections = np.load(tmp_path / f"{ops}.npz")
        np.testing.assert_allclose(detections["scores"], expected, rtol=1e-4, atol=1e-5, err_msg=ops)


# The mask head's ops are those of the box head, which is exported in both ways above.
@pytest.mark.parametrize("ops", ["native", pytest.param("portable", marks=pytest.mark.slow)])
def test_an_exported_mask_rcnn_gives_the_same_masks_also_where_it_detects_nothing(ops, tmp_path):
    detector = make_detector(**{"mask_head": MASK_HEAD, "rpn.proposals": [40, 20]})
    detector.mask_head.classifier.kernel.assign(keras.random.normal(detector.mask_head.classifier.kernel.shape, seed=2))
    exported = load_exported(export_saved_model(detector, tmp_path / "model", ops), "network")
    inputs, _ = make_batch()
    expected, found = detector(inputs), exported(**inputs)
    assert set(found) == OUTPUTS | {"masks"}
    assert np.ptp(expected["masks"]) > 0.1
    np.testing.assert_allclose(found["masks"], expected["masks"], rtol=1e-3, atol=1e-4)
    nothing = exported(tf.zeros([1, 64, 64, 3]), tf.zeros([1, 2]))  # an image without pixels
    assert int(nothing["num_detections"][0]) == 0
    assert nothing["masks"].shape == (1, 100, 8, 8)
    assert not np.any(nothing["masks"])


@pytest.mark.parametrize("eager", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_training_with_feature_mimicking_exports_the_same_graph(exported, tmp_path, eager):
    mimicking = make_detector()
    model = FeatureMimicking(mimicking, MIMIC)
    model.compile("sgd")
    with run_eagerly(eager):
        model.fit(tf.data.Dataset.from_tensors(make_batch()), verbose=0, shuffle=False)
    path = export_saved_model(mimicking, tmp_path / "mimicking")
    assert node_types(path) == node_types(exported["native"])
    for received, expected in zip(signature(path), signature(exported["native"]), strict=True):
        assert {name: str(info) for name, info in received.items()} == {
            name: str(info) for name, info in expected.items()
        }


def test_something_that_is_there_is_replaced_only_on_demand(detector, exported, tmp_path, monkeypatch):
    def write_out(archive, path, **kwargs):
        shutil.copytree(exported["native"], path, ignore=shutil.ignore_patterns("assets.extra"))

    monkeypatch.setattr(type(keras.export.ExportArchive()), "write_out", write_out)
    target = tmp_path / "1"
    shutil.copytree(exported["portable"], target)
    (target / "marker").write_text("old")
    (tmp_path / "7").mkdir()
    with pytest.raises(FileExistsError, match="1 already exists. The next version is .*/8. To replace it"):
        export_saved_model(detector, target)
    (tmp_path / "7").rmdir()
    assert (target / "marker").exists()
    export_saved_model(detector, target, overwrite=True)
    assert not (target / "marker").exists()
    assert custom_ops(target)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_folder_that_is_no_saved_model_is_never_replaced(detector, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is not a SavedModel"):
        export_saved_model(detector, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_failed_export_leaves_nothing_behind(detector, tmp_path, monkeypatch):
    def fail(archive, path, **kwargs):
        Path(path).mkdir(parents=True)
        raise OSError("disk full")

    monkeypatch.setattr(type(keras.export.ExportArchive()), "write_out", fail)
    with pytest.raises(OSError, match="disk full"):
        export_saved_model(detector, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_folder_may_have_every_name_that_is_legal(detector, tmp_path, monkeypatch):
    archive_class = type(keras.export.ExportArchive())
    monkeypatch.setattr(archive_class, "write_out", lambda archive, path, **kwargs: Path(path).mkdir())
    export_saved_model(detector, tmp_path / ("x" * 255))
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 255]


def test_an_unknown_kind_of_ops_is_refused(detector, tmp_path):
    with pytest.raises(ValueError, match=r"ops must be one of \('native', 'portable'\). Received: ops='fast'"):
        export_saved_model(detector, tmp_path / "model", "fast")


def test_an_export_of_a_detector_that_was_never_trained_is_warned_of(tmp_path, monkeypatch):
    archive_class = type(keras.export.ExportArchive())
    monkeypatch.setattr(archive_class, "write_out", lambda archive, path, **kwargs: Path(path).mkdir())
    with pytest.warns(UserWarning, match="was never trained: all biases of its classifier are zero"):
        export_saved_model(tiny_config().build(CATEGORY_IDS), tmp_path / "model")
    assert (tmp_path / "model").exists()


def test_a_signature_that_a_model_does_not_have_is_refused(exported):
    with pytest.raises(ValueError, match="'network', 'serving_bytes', 'serving_default'.*Received: 'predict'"):
        load_exported(exported["native"], "predict")


def test_loading_what_is_no_saved_model_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a SavedModel"):
        load_exported(tmp_path)

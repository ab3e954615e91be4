import collections
import functools
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from tests.support.detectors import CATEGORY_IDS, MASK_HEAD, MIMIC, make_batch, tiny_config
from tests.support.eagerly import run_eagerly
from tf_dcnv2.export import export_saved_model, load_exported, op_library_path
from tf_dcnv2.models import FasterRCNN, FeatureMimicking

OUTPUTS = {"boxes", "scores", "classes", "num_detections"}


def make_detector(**overrides) -> FasterRCNN:
    """A small detector whose deformable layers do deform."""
    keras.utils.set_random_seed(0)
    config = tiny_config("fpn", **{"box_head.score_threshold": 0.0, **overrides})
    detector = config.build(CATEGORY_IDS)
    for variable in detector.variables:
        if "offset" in variable.path:
            variable.assign(keras.random.normal(variable.shape, stddev=0.05, seed=1))
    return detector


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    return make_detector()


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("exported")
    return {ops: export_saved_model(detector, folder / ops, ops) for ops in ("native", "portable")}


# Loading takes longer than detecting.
loaded = functools.cache(load_exported)


@functools.cache
def meta_graph(path: str) -> meta_graph_pb2.MetaGraphDef:
    with open(f"{path}/saved_model.pb", "rb") as file:
        return saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0]


def signature(path: str) -> tuple[dict, dict]:
    """Type and shape of each input and output that the serving signature of a SavedModel has, by name."""
    definition = meta_graph(path).signature_def["serving_default"]
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
def test_the_signature_names_inputs_and_outputs(exported, ops):
    inputs, outputs = signature(exported[ops])
    assert {name: (dtype, shape.as_list()) for name, (dtype, shape) in inputs.items()} == {
        "images": (tf.float32, [None, None, None, 3]),
        "image_sizes": (tf.float32, [None, 2]),
    }
    assert set(outputs) == OUTPUTS


@pytest.mark.parametrize(("height", "width"), [(96, 128), (64, 70)])
@pytest.mark.parametrize("ops", ["native", "portable"])
def test_an_exported_detector_detects_what_the_detector_does(detector, exported, ops, height, width):
    inputs, _ = make_batch(height, width)
    expected = detector(inputs)
    assert int(expected["num_detections"][0]) > 0
    detections = loaded(exported[ops])(**inputs)
    assert set(detections) == OUTPUTS
    for name, value in expected.items():
        # The implementations add up in different orders; boxes are of the order of 100 pixels.
        np.testing.assert_allclose(detections[name], value, rtol=1e-4, atol=1e-3, err_msg=name)


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
    detections = tf.saved_model.load(path).signatures["serving_default"](**inputs)
    np.savez(output, **{{name: value.numpy() for name, value in detections.items()}})
detect({exported["portable"]!r}, "portable.npz")  # before the custom ops are there
tf.load_op_library({op_library_path()!r})
detect({exported["native"]!r}, "native.npz")
assert not any(name.startswith("tf_dcnv2") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    expected = detector(inputs)["scores"]
    for ops in exported:
        detections = np.load(tmp_path / f"{ops}.npz")
        np.testing.assert_allclose(detections["scores"], expected, rtol=1e-4, atol=1e-5, err_msg=ops)


# The mask head's ops are those of the box head, which is exported in both ways above.
@pytest.mark.parametrize("ops", ["native", pytest.param("portable", marks=pytest.mark.slow)])
def test_an_exported_mask_rcnn_gives_the_same_masks_also_where_it_detects_nothing(ops, tmp_path):
    detector = make_detector(**{"mask_head": MASK_HEAD, "rpn.proposals": [40, 20]})
    detector.mask_head.classifier.kernel.assign(keras.random.normal(detector.mask_head.classifier.kernel.shape, seed=2))
    exported = load_exported(export_saved_model(detector, tmp_path / "model", ops))
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
        shutil.copytree(exported["native"], path)

    monkeypatch.setattr(type(keras.export.ExportArchive()), "write_out", write_out)
    target = tmp_path / "1"
    shutil.copytree(exported["portable"], target)
    (target / "marker").write_text("old")
    with pytest.raises(FileExistsError, match="1 already exists"):
        export_saved_model(detector, target)
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


def test_loading_what_is_no_saved_model_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a SavedModel"):
        load_exported(tmp_path)

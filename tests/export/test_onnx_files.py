import sys
from pathlib import Path

import keras
import onnx
import pytest

from tf_dcnv2.export import export_onnx, export_saved_model
from tf_dcnv2.layers import DeformableConv2D, DeformableRoIPooling


@pytest.fixture
def model() -> keras.Model:
    return keras.Sequential([keras.Input((None, None, 2)), DeformableConv2D(2, 3)])


def test_the_path_of_the_file_is_returned_and_the_file_is_complete(model, tmp_path):
    path = tmp_path / "new folder" / "model.onnx"
    assert export_onnx(model, path) == str(path)
    assert [node.op_type for node in onnx.load(path).graph.node].count("DeformConv") == 1
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("opset", [18, 23, "19"])
def test_an_operator_set_without_deform_conv_or_that_nobody_tried_is_refused(opset, model, tmp_path):
    with pytest.raises(ValueError, match=f"opset must be from 19 to 22. Received: opset={opset!r}"):
        export_onnx(model, tmp_path / "model.onnx", opset=opset)


def test_a_file_that_is_there_is_replaced_only_on_demand(model, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("old")
    with pytest.raises(FileExistsError, match="model.onnx already exists. To replace it: overwrite=True"):
        export_onnx(model, path)
    assert path.read_text() == "old"
    export_onnx(model, path, overwrite=True)
    onnx.checker.check_model(path)


def test_a_folder_is_never_replaced(model, tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder; a file is to be written there. Choose another output."):
        export_onnx(model, tmp_path, overwrite=True)


@pytest.mark.parametrize("export", [export_onnx, export_saved_model])
def test_a_place_that_cannot_be_written_to_is_named_before_the_work(export, detector, tmp_path, monkeypatch):
    def work(*arguments):
        raise AssertionError("the work began")

    monkeypatch.setattr("tf_dcnv2.export.onnx.conversion.convert", work)
    monkeypatch.setattr("tf_dcnv2.export.saved_model.ServingGraph", work)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/model cannot be written: .* Choose another output"):
        export(detector, tmp_path / "file" / "model")


def test_a_failed_export_leaves_what_was_there(model, tmp_path, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    path = tmp_path / "model.onnx"
    path.write_text("old")
    monkeypatch.setattr("tf_dcnv2.export.onnx.conversion.convert", fail)
    with pytest.raises(MemoryError):
        export_onnx(model, path, overwrite=True)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_what_is_no_model_with_inputs_is_refused(tmp_path):
    for thing in (DeformableConv2D(2, 3), keras.Sequential([DeformableConv2D(2, 3)]), "detector.keras"):
        with pytest.raises(ValueError, match=f"model must be a FasterRCNN.* Received: a {type(thing).__name__}."):
            export_onnx(thing, tmp_path / "model.onnx")


def test_what_onnx_has_not_is_refused_with_the_reason(tmp_path, caplog):
    features, boxes = keras.Input((8, 8, 4)), keras.Input((None, 4))
    pooling = DeformableRoIPooling(2, spatial_scale=1 / 4, convention="mxnet")
    model = keras.Model([features, boxes], pooling(features, boxes))
    with pytest.raises(ValueError, match='has not: Dcnv2>DeformRoiPool. RoI pooling with convention="mxnet" has no'):
        export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    assert not [record for record in caplog.records if record.name.startswith("tf2onnx")]  # it would log a traceback


def test_a_type_that_onnx_has_no_convolution_for_is_refused(tmp_path):
    layer = DeformableConv2D(2, 3, dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Conv2D(2, 3, dtype="mixed_bfloat16"), layer])
    with pytest.raises(ValueError, match="ONNX' operator set 19 does not take the model: .*bfloat16"):
        export_onnx(model, tmp_path / "model.onnx")


def test_without_tf2onnx_the_message_says_what_to_install(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    monkeypatch.delitem(sys.modules, "tf_dcnv2.export.onnx.conversion", raising=False)
    with pytest.raises(ImportError, match=r"tf2onnx is not installed; .* pip install 'tf-dcnv2\[onnx\]'"):
        export_onnx(model, tmp_path / "model.onnx")
    assert not Path(tmp_path / "model.onnx").exists()

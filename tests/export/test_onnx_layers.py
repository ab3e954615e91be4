import keras
import numpy as np
import onnx
import pytest

from tests.support.onnx_files import operators, run_onnx, signature
from tf_dcnv2.export.onnx import export_onnx
from tf_dcnv2.layers import (
    DeformableConv2D,
    DeformableRoIPooling,
    ModulatedDeformableConv2D,
    ModulatedDeformableRoIPooling,
    RoIAlign,
)

# Odd and even ones: with stride 2 they have different padding, all in one file.
SIZES = ((9, 12), (12, 7), (5, 5))

CONVOLUTIONS = {
    "plain": {},
    "even kernel": {"kernel_size": (2, 4)},
    "stride 2": {"strides": 2},
    "different strides": {"strides": (3, 1), "kernel_size": (5, 2)},
    "dilation": {"dilation_rate": 2},
    "stride 2 and dilation": {"strides": 2, "dilation_rate": 2},
    "groups": {"groups": 2},
    "deformable groups": {"groups": 2, "deformable_groups": 4},
    "valid": {"padding": "valid", "strides": 2},
    "explicit": {"padding": ((0, 2), (1, 1)), "strides": 2},
}


def with_random_weights(model: keras.Model) -> keras.Model:
    for seed, variable in enumerate(model.variables):
        variable.assign(keras.random.normal(variable.shape, stddev=0.3, seed=seed))
    return model


def convolution_model(layer: keras.layers.Layer) -> keras.Model:
    return with_random_weights(keras.Sequential([keras.Input((None, None, 8), name="x"), layer]))


@pytest.mark.parametrize(
    ("layer_class", "case"),
    [(DeformableConv2D, "deformable groups"), *((ModulatedDeformableConv2D, case) for case in CONVOLUTIONS)],
)
def test_a_layer_gives_the_same_in_onnxruntime_for_images_of_any_size(layer_class, case, tmp_path, rng):
    model = convolution_model(layer_class(4, **{"kernel_size": 3, "padding": "same", **CONVOLUTIONS[case]}))
    path = export_onnx(model, tmp_path / "layer.onnx")
    assert ("", "DeformConv") in operators(path)
    assert not {"If", "Loop"} & {kind for _, kind in operators(path)}
    for size in SIZES:
        x = rng.normal(size=(2, *size, 8)).astype("float32")
        (y,) = run_onnx(path, {"x": x}).values()
        # Sums of 72 products in another order, of outputs of about 4.
        np.testing.assert_allclose(y, model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("opset", [19, 20, 21, 22])
def test_the_file_has_the_operator_set_that_was_asked_for(opset, tmp_path, rng):
    model = convolution_model(ModulatedDeformableConv2D(4, 3, strides=2, padding="same"))
    path = export_onnx(model, tmp_path / "layer.onnx", opset=opset)
    (used,) = onnx.load(path).opset_import
    assert (used.domain, used.version) == ("", opset)
    onnx.checker.check_model(path, full_check=True)
    x = rng.normal(size=(1, 7, 7, 8)).astype("float32")
    np.testing.assert_allclose(run_onnx(path, {"x": x}).popitem()[1], model(x), rtol=1e-4, atol=1e-4)


def test_sizes_that_are_known_are_written_into_the_file(tmp_path, rng):
    layer = ModulatedDeformableConv2D(4, 3, strides=2, padding="same", name="deformed")
    model = with_random_weights(keras.Sequential([keras.Input((7, 8, 8), batch_size=2, name="x"), layer]))
    path = export_onnx(model, tmp_path / "layer.onnx")
    assert signature(path) == {"x": ("FLOAT", [2, 7, 8, 8]), "deformed": ("FLOAT", [2, 4, 4, 4])}
    assert "Pad" not in {kind for _, kind in operators(path)}
    x = rng.normal(size=(2, 7, 8, 8)).astype("float32")
    np.testing.assert_allclose(run_onnx(path, {"x": x})["deformed"], model(x), rtol=1e-4, atol=1e-4)


def test_a_layer_in_half_precision_computes_what_it_does(tmp_path, rng):
    model = convolution_model(ModulatedDeformableConv2D(4, 3, padding="same", dtype="mixed_float16", name="deformed"))
    path = export_onnx(model, tmp_path / "layer.onnx")
    x = rng.normal(size=(1, 6, 7, 8)).astype(model.inputs[0].dtype)
    y = run_onnx(path, {"x": x})["deformed"]
    assert y.dtype == np.float16
    # Outputs of about 4 are rounded to 11 bits.
    np.testing.assert_allclose(y, model(x), rtol=4e-3, atol=4e-3)


POOLINGS = {
    "RoIAlign": lambda **arguments: RoIAlign(3, **arguments),
    "not aligned": lambda **arguments: RoIAlign((2, 3), aligned=False, **arguments),
    "v1": lambda **arguments: DeformableRoIPooling((2, 3), hidden_units=8, **arguments),
    "v2": lambda **arguments: ModulatedDeformableRoIPooling(3, hidden_units=8, **arguments),
    "v2, paper": lambda **arguments: ModulatedDeformableRoIPooling(3, gamma=1.0, hidden_units=8, **arguments),
}
# Two images: boxes inside, over the border, outside, and without area.
BOXES = [
    [[3, 4, 40, 30], [0, 0, 63, 79], [50, 60, 90, 100], [200, 200, 220, 230]],
    [[-30, -20, 25, 14], [10, 10, 10, 10], [20.5, 5.25, 29, 61], [0, 0, 300, 300]],
]


@pytest.mark.parametrize(("kind", "samples"), [*((kind, 2) for kind in POOLINGS), ("RoIAlign", 0), ("v1", 0)])
def test_rois_are_pooled_from_their_levels_as_by_the_layer(kind, samples, tmp_path, rng):
    levels = [keras.Input((None, None, 4), name=name) for name in ("p2", "p3")]
    boxes, chosen = keras.Input((None, 4), name="boxes"), keras.Input((None,), dtype="int32", name="levels")
    layer = POOLINGS[kind](spatial_scale=[1 / 4, 1 / 8], sampling_ratio=samples, name="pooled")
    model = with_random_weights(keras.Model([*levels, boxes, chosen], layer(levels, boxes, levels=chosen)))
    path = export_onnx(model, tmp_path / "pooling.onnx")
    inputs = {
        "p2": rng.normal(size=(2, 16, 20, 4)).astype("float32"),
        "p3": rng.normal(size=(2, 8, 10, 4)).astype("float32"),
        "boxes": np.array(BOXES, "float32"),
        "levels": np.array([[0, 1, 0, 1], [1, 0, 1, 1]], "int32"),
    }
    expected = model(list(inputs.values()))
    assert np.ptp(expected) > 1
    # Bins are boxes of their own: their corners of up to 300 are rounded in float32, to about 1e-5 feature pixels.
    np.testing.assert_allclose(run_onnx(path, inputs)["pooled"], expected, rtol=1e-4, atol=2e-4)


def test_a_model_keeps_the_names_of_its_inputs_and_outputs(tmp_path, rng):
    inputs = {name: keras.Input((None, None, 2), name=name) for name in ("left", "right")}
    merged = keras.layers.Concatenate()(list(inputs.values()))
    outputs = {
        "features": ModulatedDeformableConv2D(3, 3, padding="same")(merged),
        "mean": keras.layers.GlobalAveragePooling2D()(merged),
    }
    model = with_random_weights(keras.Model(inputs, outputs))
    path = export_onnx(model, tmp_path / "model.onnx")
    assert signature(path) == {
        "left": ("FLOAT", ["batch", "left_height", "left_width", 2]),
        "right": ("FLOAT", ["batch", "right_height", "right_width", 2]),
        "features": ("FLOAT", ["batch", "features_height", "features_width", 3]),
        "mean": ("FLOAT", ["batch", 4]),
    }
    x = {name: rng.normal(size=(1, 6, 5, 2)).astype("float32") for name in inputs}
    found, expected = run_onnx(path, x), model(x)
    for name in outputs:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_openvino_computes_the_same_once_it_is_told_of_its_own_operation(kind, tmp_path, rng):
    openvino = pytest.importorskip("openvino")
    from tf_dcnv2.export import openvino_extension

    layer_class = DeformableConv2D if kind == "v1" else ModulatedDeformableConv2D
    model = convolution_model(layer_class(4, 3, strides=2, padding="same", groups=2, deformable_groups=4))
    path = export_onnx(model, tmp_path / "layer.onnx")
    core = openvino.Core()
    core.add_extension(openvino_extension())
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size in SIZES:
        x = rng.normal(size=(2, *size, 8)).astype("float32")
        np.testing.assert_allclose(compiled({"x": x})[0], model(x), rtol=1e-4, atol=1e-4)

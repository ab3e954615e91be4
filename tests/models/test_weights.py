import functools
import logging

import keras
import numpy as np
import pytest

from tests.support.detectors import CATEGORY_IDS, MIMIC, tiny_config
from tf_dcnv2.models import BackboneConfig, FasterRCNN, FeatureMimicking, ResNetBackbone
from tf_dcnv2.models.weights import copy_weights, load_weights

TINY = {"depths": (1, 1, 1, 1), "widths": (4, 4, 4, 4), "stem_width": 8}


def tiny_backbone(**changes) -> ResNetBackbone:
    return ResNetBackbone(BackboneConfig(**{**TINY, **changes}))


@functools.cache
def _built_detector(category_ids, seed, dcn) -> tuple[FasterRCNN, list[np.ndarray]]:
    keras.utils.set_random_seed(seed)
    detector = tiny_config(dcn=dcn).build(category_ids)
    return detector, [variable.numpy() for variable in detector.variables]


def tiny_detector(category_ids=CATEGORY_IDS, seed=1, dcn="v2") -> FasterRCNN:
    """One detector for all tests, since building it takes most of their time; with its first weights each time."""
    detector, values = _built_detector(category_ids, seed, dcn)
    for variable, value in zip(detector.variables, values, strict=True):
        variable.assign(value)
    return detector


def values_by_name(model: keras.Model) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in model.weights}


def test_names_of_weights_are_unique_in_a_detector():
    detector = tiny_detector()
    assert len(values_by_name(detector)) == len(detector.weights)


def test_deformable_layers_take_kernel_and_bias_of_the_convolution_they_replace():
    regular, deformable = tiny_backbone(), tiny_backbone(dcn="v2", dcn_stages=(4, 5))
    regular.get_layer("conv5_block1_2_conv").bias.assign([1, 2, 3, 4])
    report = copy_weights(regular, deformable)
    for name in ("kernel", "bias"):
        for layer in ("conv4_block1_2_conv", "conv5_block1_2_conv"):
            expected = getattr(regular.get_layer(layer), name)
            np.testing.assert_array_equal(getattr(deformable.get_layer(layer), name), expected)
    assert set(report.new) == {f"conv{n}_block1_2_conv/offset_{part}" for n in (4, 5) for part in ("kernel", "bias")}
    assert not report.skipped
    assert not np.any(deformable.get_layer("conv5_block1_2_conv").offset_kernel)


def test_a_report_counts_in_one_line_and_lists_on_request():
    report = copy_weights(tiny_backbone(dcn="v1", dcn_stages=(4, 5)), tiny_backbone(dcn="v2", dcn_stages=(5,)))
    assert str(report) == f"{len(report.loaded)} weights loaded, 2 new, 4 skipped"
    lines = report.details()
    assert len(lines) == len(report.loaded) + 2 + 4
    assert "loaded   conv1_conv/kernel" in lines
    assert "new      conv5_block1_2_conv/offset_kernel" in lines
    assert "skipped  conv5_block1_2_conv/offset_bias: shape (18,), the model has (27,)" in lines
    assert "skipped  conv4_block1_2_conv/offset_bias: the model has no such weight" in lines


def test_a_backbone_of_another_width_is_refused_by_name_and_changes_nothing():
    source, backbone = tiny_backbone(widths=(4, 4, 8, 8)), tiny_backbone()
    before = values_by_name(backbone)
    with pytest.raises(ValueError, match=r"conv4_block1_\d_\w+/\w+ has shape .*8.* in 'backbone', but .*4.* in"):
        copy_weights(source, backbone)
    for name, value in values_by_name(backbone).items():
        np.testing.assert_array_equal(value, before[name])


def test_another_network_is_refused():
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="other")
    with pytest.raises(ValueError, match="No weight of 'other' has the name of a weight of 'backbone'"):
        copy_weights(other, tiny_backbone())


def test_a_detector_of_the_same_classes_is_loaded_completely(tmp_path):
    source, detector = tiny_detector(seed=1), tiny_detector(seed=2)
    source.save(tmp_path / "detector.keras")
    report = load_weights(detector, str(tmp_path / "detector.keras"))
    assert (report.new, report.skipped) == ((), {})
    expected = values_by_name(source)
    for name, value in values_by_name(detector).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_of_a_detector_of_other_classes_all_but_the_class_layers_is_loaded(tmp_path):
    source, detector = tiny_detector((1, 2, 3, 4, 5), seed=1), tiny_detector(seed=2)
    FeatureMimicking(source, MIMIC).save(tmp_path / "mimicking.keras")
    before = values_by_name(detector)
    report = load_weights(detector, str(tmp_path / "mimicking.keras"))
    of_classes = {f"box_head/{layer}/{part}" for layer in ("classifier", "regressor") for part in ("kernel", "bias")}
    assert set(report.new) == set(report.skipped) == of_classes
    expected = values_by_name(source)
    for name, value in values_by_name(detector).items():
        np.testing.assert_array_equal(value, before[name] if name in of_classes else expected[name], err_msg=name)


def test_a_regular_detector_starts_a_deformable_one():
    source, detector = tiny_detector(seed=1, dcn="none"), tiny_detector(seed=2)
    report = copy_weights(source, detector)
    assert not report.skipped
    assert report.new and all("/offset_" in name for name in report.new)


@pytest.mark.parametrize("from_detector", [False, True])
@pytest.mark.parametrize("to_detector", [False, True])
def test_backbones_are_taken_from_detectors_and_put_into_them(tmp_path, from_detector, to_detector):
    source, target = tiny_detector(seed=1), tiny_detector(seed=2)
    (source if from_detector else source.backbone).save(tmp_path / "source.keras")
    rest = target.box_head.fc1.kernel.numpy()
    report = load_weights(target if to_detector else target.backbone, str(tmp_path / "source.keras"))
    assert (report.new, report.skipped) == ((), {})
    kernels = [model.backbone.get_layer("conv5_block1_3_conv").kernel for model in (source, target)]
    np.testing.assert_array_equal(*kernels)
    assert np.array_equal(target.box_head.fc1.kernel, rest) == (not (from_detector and to_detector))


@pytest.mark.parametrize("whole", [False, True], ids=["backbone", "detector"])
def test_bare_weights_of_the_same_network_are_loaded(tmp_path, whole):
    source, detector = tiny_detector(seed=1), tiny_detector(seed=2)
    path = str(tmp_path / "a.weights.h5")
    (source if whole else source.backbone).save_weights(path)
    report = load_weights(detector, path)
    expected = values_by_name(source)
    assert len(report.loaded) == len(detector.weights if whole else detector.backbone.weights)
    for name in report.loaded:
        np.testing.assert_array_equal(values_by_name(detector)[name], expected[name])


@pytest.mark.parametrize(
    ("saved", "target"),
    [
        (lambda: tiny_detector(dcn="none"), tiny_detector),
        (lambda: tiny_detector(dcn="none").backbone, tiny_detector),
        (lambda: tiny_detector((1, 2)), tiny_detector),
        (tiny_detector, lambda: tiny_detector().backbone),
    ],
    ids=["regular", "regular backbone", "other classes", "detector into a backbone"],
)
def test_bare_weights_that_do_not_fit_give_a_clear_error(tmp_path, saved, target):
    path = str(tmp_path / "a.weights.h5")
    saved().save_weights(path)
    with pytest.raises(ValueError, match=r"a.weights.h5 does not fit '\w+'. .* save the whole model as .keras"):
        load_weights(target(), path)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ("nothing.keras", FileNotFoundError, "no file 'nothing.keras'"),
        (__file__, ValueError, "must be 'imagenet' or a .keras, .weights.h5, .pth, .pt or .safetensors file"),
    ],
)
def test_what_is_no_weights_file_is_named(weights, error, message):
    with pytest.raises(error, match=message):
        load_weights(tiny_backbone(), weights)


@pytest.fixture
def offline_imagenet(monkeypatch):
    """keras.applications' networks with random weights instead of a download."""
    for name in ("ResNet50", "ResNet101"):
        application = getattr(keras.applications, name)
        monkeypatch.setattr(
            keras.applications, name, lambda *, weights, make=application, **rest: make(weights=None, **rest)
        )


def test_imagenet_weights_fill_the_backbone_of_a_preset_and_the_log_says_so(offline_imagenet, caplog):
    with caplog.at_level(logging.DEBUG, logger="tf_dcnv2"):
        detector = FasterRCNN.from_preset("faster_rcnn_r50_dcnv1", 2, weights="imagenet")
    report = detector.weight_report
    assert set(report.new) == {
        f"conv5_block{block}_2_conv/offset_{part}" for block in (1, 2, 3) for part in ("kernel", "bias")
    }
    assert not report.skipped
    assert caplog.records[0].getMessage() == f"imagenet: {report}"
    assert "new      conv5_block1_2_conv/offset_kernel" in caplog.records[1].getMessage()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (TINY, r"widths=\(4, 4, 4, 4\), stem_width=8, depths=\(1, 1, 1, 1\)"),
        ({"groups": 32, "width_per_group": 4, "stride_in": "3x3"}, "groups=32, width_per_group=4, stride_in='3x3'"),
        ({"preprocessing": "torch"}, "preprocessing='torch'"),
        ({"norm": "group"}, "norm='group'"),
    ],
)
def test_imagenet_weights_of_another_architecture_do_not_exist(offline_imagenet, changes, named):
    backbone = tiny_backbone()
    backbone.config = BackboneConfig(**changes)
    with pytest.raises(ValueError, match=f"ResNet-50 and ResNet-101 .* Received: {named}"):
        load_weights(backbone, "imagenet")


def test_a_failed_download_says_what_to_do(monkeypatch):
    def fail(**arguments):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "ResNet50", fail)
    backbone = tiny_backbone()
    backbone.config = BackboneConfig()
    with pytest.raises(OSError, match="could not be fetched: URL fetch failure. Where there is no network, give"):
        load_weights(backbone, "imagenet")

import dataclasses

import pytest
import yaml

from tf_dcnv2.models import BackboneConfig, DetectorConfig, FasterRCNN
from tf_dcnv2.models.presets import load_preset


def test_a_configuration_survives_the_way_through_plain_types():
    config = load_preset("faster_rcnn_small_dcnv2")
    assert DetectorConfig.from_dict(config.to_dict()) == config


def test_replace_changes_what_a_dotted_key_names_and_nothing_else():
    config = DetectorConfig()
    changed = config.replace(**{"box_head.samples": 64, "short_side": 640})
    assert (changed.box_head.samples, changed.short_side) == (64, 640)
    assert dataclasses.replace(changed, box_head=config.box_head, short_side=config.short_side) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"box_head.smaples": 1},
            r"Unknown setting 'box_head.smaples'. Did you mean 'box_head.samples' or",
        ),
        ({"head.samples": 1}, r"No configuration section named 'head'"),
        ({"backbone.dcn": "v3"}, r"BackboneConfig.dcn must be one of .*'v2'.* Received: 'v3'"),
        ({"backbone.dcn_stages": [6]}, r"BackboneConfig.dcn_stages\[0\] must be in \[2, 5\]. Received: 6"),
        ({"backbone.dcn_stages": [5]}, r"dcn_stages must be empty exactly when dcn is 'none'"),
        ({"rpn.negative_iou": 0.9}, r"negative_iou must be in \(0, positive_iou\]. Received: 0.9"),
        ({"neck.kind": "fpn", "backbone.dilated_c5": False, "rpn.anchor_sizes": [32]}, r"one size per pyramid level"),
        ({"backbone.dilated_c5": False}, r"dilated_c5 belongs to NeckConfig.kind='c5'"),
        ({"neck.kind": "fpn"}, r"dilated_c5 belongs to NeckConfig.kind='c5'.* Received: dilated_c5=True, kind='fpn'"),
        ({"short_side": 3000}, r"short_side must be in \(0, max_side\]"),
        ({"box_head.samples": 1.5}, r"BoxHeadConfig.samples must be a whole number. Received: 1.5"),
        ({"weight_decay": "small"}, r"DetectorConfig.weight_decay must be a finite number. Received: 'small'"),
        ({"rpn.anchor_sizes": [16, "x"]}, r"RPNConfig.anchor_sizes\[1\] must be a finite number. Received: 'x'"),
        ({"neck.levels": [2, 4]}, r"NeckConfig.levels must be consecutive levels. Received: \(2, 4\)"),
        (
            {"backbone.width_per_group": 3, "backbone.widths": [32, 64, 128, 256]},
            r"width_per_group must be such that .* Received: 3",
        ),
        ({"box_head": 3}, r"box_head must be a mapping of settings. Received: 3"),
    ],
)
def test_a_wrong_setting_is_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        DetectorConfig().replace(**overrides)


def test_numbers_may_be_written_as_yaml_takes_for_text():
    assert DetectorConfig().replace(**yaml.safe_load("backbone.norm_epsilon: 1e-5")).backbone.norm_epsilon == 1e-5


@pytest.mark.parametrize("arguments", [{}, {"num_classes": 2, "category_ids": [1, 2]}])
def test_classes_are_given_in_exactly_one_way(arguments):
    with pytest.raises(ValueError, match="either num_classes or category_ids"):
        FasterRCNN.from_preset("faster_rcnn_small_dcnv2", **arguments)


def test_the_stages_default_to_the_papers():
    assert BackboneConfig(dcn="v1").dcn_stages == (5,)
    assert BackboneConfig(dcn="v2").dcn_stages == (3, 4, 5)
    assert BackboneConfig().dcn_stages == ()

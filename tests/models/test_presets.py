import dataclasses

import pytest

from tf_dcnv2.models import DetectorConfig, FasterRCNN
from tf_dcnv2.models.presets import load_preset, paper_ap, preset_names, regular_preset

# Stages and kind of the deformable convolutions and the RoI pooling of each row of tables 1 and 2.
ROWS = {
    "regular": ("none", (), "none"),
    "dconv_c5": ("v1", (5,), "none"),
    "dconv_c4_c5": ("v1", (4, 5), "none"),
    "dconv_c3_c5": ("v1", (3, 4, 5), "none"),
    "dconv_c2_c5": ("v1", (2, 3, 4, 5), "none"),
    "dconv_c5_dpool": ("v1", (5,), "v1"),
    "dconv_c3_c5_dpool": ("v1", (3, 4, 5), "v1"),
    "mdconv_c3_c5_mdpool": ("v2", (3, 4, 5), "v2"),
}


def deformation(config: DetectorConfig):
    return config.backbone.dcn, config.backbone.dcn_stages, config.box_head.pooling


@pytest.mark.parametrize("mimic", ["none", "positive", "negative", "all"])
@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
@pytest.mark.parametrize("row", ROWS)
def test_each_row_of_the_tables_is_a_preset_at_both_image_sizes(detector, row, mimic):
    name = f"{detector}_r50_{row}" + (f"_mimic_{mimic}" if mimic != "none" else "")
    config = load_preset(name)
    assert deformation(config) == ROWS[row]
    assert config.mimic.rois == mimic
    assert (config.mask_head is not None) == (detector == "mask_rcnn")
    assert config.mask_head is None or config.mask_head.pooling == config.box_head.pooling
    assert (config.short_side, config.max_side) == (1000, 1666)
    assert load_preset(f"{name}_800") == dataclasses.replace(config, short_side=800, max_side=1333)


@pytest.mark.parametrize("backbone", ["r50", "r101", "x101_32x4d", "x101_64x4d", "small"])
@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_the_papers_names_stand_for_its_three_systems(detector, backbone):
    regular, dcnv1, dcnv2 = (load_preset(f"{detector}_{backbone}_{name}") for name in ("regular", "dcnv1", "dcnv2"))
    assert [deformation(config) for config in (regular, dcnv1, dcnv2)] == [
        ROWS["regular"], ROWS["dconv_c5_dpool"], ROWS["mdconv_c3_c5_mdpool"]
    ]  # fmt: skip
    assert [config.mimic.rois for config in (regular, dcnv1, dcnv2)] == ["none", "none", "positive"]
    assert regular.replace(mimic=dcnv2.mimic.to_dict()).rpn == dcnv2.rpn


def test_short_and_long_names_of_a_row_are_the_same_detector():
    assert load_preset("mask_rcnn_r50_dcnv1") == load_preset("mask_rcnn_r50_dconv_c5_dpool")
    assert load_preset("mask_rcnn_r50_dcnv2") == load_preset("mask_rcnn_r50_mdconv_c3_c5_mdpool_mimic_positive")


def test_faster_rcnn_uses_stage_five_and_mask_rcnn_a_pyramid_unless_the_name_says_otherwise():
    necks = {
        "faster_rcnn_r50_dcnv2": ("c5", True, 512, (12000, 6000)),
        "faster_rcnn_r50_fpn_dcnv2": ("fpn", False, 256, (2000, 1000)),
        "mask_rcnn_r50_dcnv2": ("fpn", False, 256, (2000, 1000)),
        "mask_rcnn_r50_c5_dcnv2_800": ("c5", True, 512, (12000, 6000)),
        "mask_rcnn_x101_64x4d_dcnv1": ("fpn", False, 256, (2000, 1000)),
    }
    for name, expected in necks.items():
        config = load_preset(name)
        assert (config.neck.kind, config.backbone.dilated_c5, config.rpn.channels, config.rpn.pre_nms) == expected


def test_the_papers_presets_have_the_papers_settings():
    config = load_preset("mask_rcnn_r50_dcnv2")
    assert (config.rpn.anchor_sizes, config.rpn.aspect_ratios) == ((32, 64, 128, 256, 512), (0.5, 1.0, 2.0))
    assert (config.rpn.proposals, config.rpn.nms_iou, config.rpn.samples) == ((2000, 1000), 0.7, 256)
    assert (config.box_head.samples, config.box_head.positive_fraction, config.box_head.units) == (512, 0.25, 1024)
    assert (config.box_head.pool_size, config.mask_head.pool_size) == (7, 14)
    assert (config.mimic.rois_per_image, config.mimic.patch_size) == (32, 224)
    assert (config.weight_decay, config.backbone.norm, config.backbone.frozen_stages) == (1e-4, "frozen_batch", 2)


def test_the_backbones_are_the_papers():
    depths = {"r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3), "x101_32x4d": (3, 4, 23, 3), "x101_64x4d": (3, 4, 23, 3)}
    groups = {"r50": (1, 64), "r101": (1, 64), "x101_32x4d": (32, 4), "x101_64x4d": (64, 4)}
    for name in depths:
        backbone = load_preset(f"faster_rcnn_{name}_regular").backbone
        assert (backbone.depths, (backbone.groups, backbone.width_per_group)) == (depths[name], groups[name])


def test_every_name_is_that_of_one_configuration_and_each_detector_lists_its_own():
    names = preset_names()
    assert len(set(names)) == len(names) == 192
    assert set(FasterRCNN.presets) == set(preset_names("faster_rcnn")) == {n for n in names if n.startswith("faster_")}
    for name in names:
        load_preset(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("faster_rcnn_r50_dcn2", " Did you mean .*'faster_rcnn_r50_dcnv2'"),
        ("mask_rcnn_r101_dconv", " Did you mean .*'mask_rcnn_r101_dcnv1'"),
        ("yolo", ""),
    ],
)
def test_an_unknown_preset_suggests_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"Unknown preset '{name}'.{nearest}.* `tf-dcnv2 presets --all` lists all 192"):
        FasterRCNN.from_preset(name, 3)


def test_the_papers_results_are_those_its_text_states():
    assert paper_ap("faster_rcnn_r50_regular") == {"box": 34.7}
    assert paper_ap("mask_rcnn_r50_mdconv_c3_c5_mdpool") == {"box": 43.1, "mask": 37.3}
    assert paper_ap("mask_rcnn_r50_dcnv1") == paper_ap("mask_rcnn_r50_dconv_c5_dpool") == {"box": 40.4, "mask": 35.3}
    stated = {load_preset(name) for name in preset_names() if paper_ap(name)}
    assert len(stated) == 6
    assert {config.short_side for config in stated} == {1000}


def test_the_regular_preset_is_the_same_detector_without_deformable_layers_and_mimicking():
    for name in preset_names():
        config = load_preset(name)
        overrides = {
            "backbone.dcn": "none",
            "backbone.dcn_stages": (),
            "box_head.pooling": "none",
            "mimic.rois": "none",
        }
        if config.mask_head is not None:
            overrides["mask_head.pooling"] = "none"
        assert load_preset(regular_preset(name)) == config.replace(**overrides)

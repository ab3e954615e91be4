"""What is read from a checkpoint and a configuration, and what is refused."""

import keras
import numpy as np
import pytest

from tests.support import torch_files
from tests.support.detectors import assert_detects_the_same_when_loaded, make_batch
from tests.support.torch_detectors import mmdetection_weights, torchvision_weights
from tf_dcnv2.models import FasterRCNN, MaskRCNN, load_preset
from tf_dcnv2.models.checkpoints import import_detector, source_preset_names
from tf_dcnv2.models.checkpoints.categories import COCO_CATEGORIES, categories_of
from tf_dcnv2.models.checkpoints.projects import DETECTRON2, MMDETECTION


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a checkpoint and returns its path."""

    def write(weights, name="model.pth"):
        torch_files.save(weights, tmp_path / name)
        return tmp_path / name

    return write


def test_shapes_tell_the_architecture(checkpoint):
    imported = import_detector(checkpoint(torchvision_weights(num_classes=5)))
    config = imported.config
    assert config.backbone.depths == (1, 1, 1, 1) and config.backbone.widths == (8, 8, 8, 8)
    assert config.backbone.stem_width == 8 and config.backbone.groups == 1 and config.backbone.dcn == "none"
    assert config.neck.channels == config.rpn.channels == 16 and config.box_head.units == 32
    assert config.mask_head.convolutions == 2 and config.mask_head.channels == 16
    assert imported.categories == {number: str(number) for number in range(1, 6)}


def test_what_shapes_do_not_tell_is_the_projects_own_way(checkpoint):
    config = import_detector(checkpoint(torchvision_weights())).config
    assert config.resizing == "torchvision" and config.backbone.stride_in == "3x3"
    assert config.backbone.norm_epsilon == 0  # frozen normalisation: trained when it added nothing
    assert config.rpn.anchor_rounding and config.rpn.anchor_stride == "image" and config.rpn.anchor_offset == 0
    assert not config.box_head.aligned and config.box_head.sampling_ratio == 2


def test_settings_win_over_everything(checkpoint):
    path = checkpoint(torchvision_weights())
    detector = MaskRCNN.from_checkpoint(path, short_side=96, **{"backbone.norm_epsilon": 1e-3})
    assert detector.short_side == 96 and detector.backbone.config.norm_epsilon == 1e-3
    assert MaskRCNN.from_checkpoint(path, category_ids=(4, 6, 9)).category_ids == (4, 6, 9)


def test_a_preset_says_which_of_the_projects_detectors_it_is(checkpoint):
    path = checkpoint(torchvision_weights())
    assert import_detector(path, preset="torchvision/maskrcnn_resnet50_fpn").config == import_detector(path).config
    with pytest.raises(
        ValueError, match="weights are those of torchvision, and preset 'mmdet/.*' is one of mmdetection"
    ):
        import_detector(path, preset="mmdet/mask-rcnn_r50_fpn_1x_coco")
    with pytest.raises(ValueError, match=r"Unknown preset 'torchvision/maskrcnn'.*There are: torchvision/fasterrcnn"):
        import_detector(path, preset="torchvision/maskrcnn")


@pytest.mark.parametrize("name", source_preset_names())
def test_presets_of_other_projects_describe_detectors(name):
    config = load_preset(name)
    assert (config.mask_head is not None) == ("mask" in name)
    assert (config.backbone.dcn == "v2") == ("mdconv" in name)
    assert config.backbone.depths[2] == (23 if "101" in name else 6)
    assert (config.box_head.pooling == "none") == ("pool" not in name)
    assert (config.neck.norm == "none") == (not name.endswith("_v2"))
    assert config.rpn.anchor_offset == 0 and config.neck.channels == 256 and config.short_side == 800


def test_presets_of_other_projects_build_detectors():
    narrow = {"backbone.widths": (8, 8, 8, 8), "backbone.depths": (1, 1, 1, 1), "backbone.stem_width": 8}
    detector = FasterRCNN.from_preset("torchvision/fasterrcnn_resnet50_fpn", num_classes=3, **narrow)
    assert detector.name == "torchvision_fasterrcnn_resnet50_fpn" and detector.category_ids == (1, 2, 3)


def test_an_imported_detector_is_an_ordinary_one(checkpoint, tmp_path, rng):
    detector = MaskRCNN.from_checkpoint(checkpoint(torchvision_weights()), short_side=96)
    assert_detects_the_same_when_loaded(detector, tmp_path, rng)


@pytest.mark.usefixtures("eagerly")
def test_fine_tuning_keeps_all_but_the_classifiers(checkpoint, tmp_path):
    detector = FasterRCNN.from_checkpoint(checkpoint(torchvision_weights(masks=False)), short_side=96)
    detector.save(tmp_path / "detector.keras")
    config = import_detector(tmp_path / "model.pth").config
    keras.utils.set_random_seed(0)
    other = config.build((3, 7, 90, 91, 92))
    from tf_dcnv2.models import load_weights

    report = load_weights(other, str(tmp_path / "detector.keras"))
    assert {name.split("/")[1] for name in report.new} == {"classifier", "regressor"}
    other.compile(keras.optimizers.Adam(3e-3))
    inputs, targets = make_batch()
    losses = [other.train_on_batch(inputs, targets, return_dict=True)["loss"] for _ in range(6)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_offset_branches_are_found_by_the_names_of_each_project():
    assert DETECTRON2.translate("backbone.bottom_up.res3.0.conv2_offset.bias") == "conv3_block1_2_conv/offset_bias"
    for name in ("conv2.conv_offset", "conv2_offset"):  # of today, and of mmdetection's first releases
        assert MMDETECTION.translate(f"backbone.layer2.0.{name}.weight") == "conv3_block1_2_conv/offset_kernel"


def test_a_part_that_is_missing_is_named(checkpoint):
    weights = torchvision_weights()
    del weights["roi_heads.box_head.fc7.weight"]
    with pytest.raises(ValueError, match=r"model.pth.*no weight for box_head/fc2/kernel"):
        MaskRCNN.from_checkpoint(checkpoint(weights))
    del weights["roi_heads.box_predictor.cls_score.weight"]
    with pytest.raises(ValueError, match=r"no weight for box_head/classifier/kernel"):
        MaskRCNN.from_checkpoint(checkpoint(weights))


def test_weights_of_other_parts_are_named(checkpoint):
    weights = torchvision_weights() | {"roi_heads.keypoint_head.0.weight": np.zeros([4, 4, 3, 3], np.float32)}
    with pytest.raises(ValueError, match=r"1 weights belong to no part .* of torchvision .*keypoint_head.0.weight"):
        MaskRCNN.from_checkpoint(checkpoint(weights))


def test_a_weight_of_another_shape_is_named_and_nothing_is_loaded(checkpoint):
    weights = torchvision_weights()
    weights["roi_heads.box_head.fc7.bias"] = np.zeros(31, np.float32)
    with pytest.raises(
        ValueError, match=r"model.pth: its weight for box_head/fc2/bias has the shape \(31,\).* wants \(32,\)"
    ):
        MaskRCNN.from_checkpoint(checkpoint(weights))


def test_networks_of_other_kinds_are_refused(checkpoint, tmp_path):
    vit = {"blocks.0.attn.qkv.weight": np.zeros([12, 4], np.float32)}
    with pytest.raises(ValueError, match=r"not those of a Faster or Mask R-CNN .*blocks.0.attn.qkv.weight"):
        FasterRCNN.from_checkpoint(checkpoint(vit))
    with pytest.raises(ValueError, match="holds no weights by name"):
        FasterRCNN.from_checkpoint(checkpoint({"epoch": 3}))
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        FasterRCNN.from_checkpoint(tmp_path / "none.pth")
    with pytest.raises(ValueError, match="is a folder"):
        FasterRCNN.from_checkpoint(tmp_path)


def test_the_other_class_of_detector_says_so(checkpoint):
    path = checkpoint(torchvision_weights())
    with pytest.raises(ValueError, match="A FasterRCNN has no mask head, and the configuration describes one"):
        FasterRCNN.from_checkpoint(path)


def test_the_number_of_category_ids_has_to_fit(checkpoint):
    with pytest.raises(ValueError, match="one for each of the 3 classes. Received: 2 ids"):
        MaskRCNN.from_checkpoint(checkpoint(torchvision_weights()), category_ids=(1, 2))


def test_classes_are_cocos_where_there_are_as_many():
    assert len(COCO_CATEGORIES) == 80
    assert categories_of(80, {}) == COCO_CATEGORIES
    slots = categories_of(90, {})
    assert list(slots) == list(range(1, 91)) and slots[90] == "toothbrush" and slots[83] == "unused 83"
    names = {"dataset_meta": {"classes": ["cat", "dog"]}}
    assert categories_of(2, names) == {1: "cat", 2: "dog"}
    assert categories_of(2, names, category_ids=[17, 18]) == {17: "cat", 18: "dog"}
    assert categories_of(2, {"CLASSES": ["cat", "dog"]}) == {1: "cat", 2: "dog"}  # mmdetection 2


MMDETECTION_2 = """
model = dict(type='FasterRCNN', rpn_head=dict(type='RPNHead'))
train_cfg = dict(rpn_proposal=dict(nms_pre=2000, max_num=900))
test_cfg = dict(rpn=dict(nms_pre=1000, max_num=800, nms_thr=0.6), rcnn=dict(nms=dict(type='nms', iou_thr=0.4)))
data = dict(test=dict(pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(1000, 600), transforms=[
        dict(type='Resize', keep_ratio=True),
        dict(type='Normalize', mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)])]))
"""


def test_configurations_of_mmdetection_2(checkpoint, tmp_path):
    (tmp_path / "config.py").write_text(MMDETECTION_2)
    config = import_detector(checkpoint(mmdetection_weights()), config=tmp_path / "config.py").config
    assert config.rpn.proposals == (900, 800) and config.rpn.nms_iou == 0.6 and config.box_head.nms_iou == 0.4
    assert (config.short_side, config.max_side) == (600, 1000)
    assert config.backbone.preprocessing == "bgr" and config.backbone.pixel_mean == (103.53, 116.28, 123.675)
    assert config.backbone.pixel_deviation == (1, 1, 1)


def test_safetensors(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    weights = torchvision_weights()
    save_file(weights, tmp_path / "model.safetensors")
    imported = import_detector(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(
        imported.weights["rpn/shared/kernel"], weights["rpn.head.conv.0.0.weight"].transpose(2, 3, 1, 0)
    )
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated or damaged"):
        import_detector(tmp_path / "cut.safetensors")


def test_mmdetections_first_version_is_refused_by_its_names(checkpoint):
    weights = {name.replace("roi_head.", ""): value for name, value in mmdetection_weights().items()}
    with pytest.raises(ValueError, match=r"model.pth: .* mmdetection 1, .*bbox_head.shared_fcs.0.weight.*background"):
        FasterRCNN.from_checkpoint(checkpoint(weights))


def test_mmdetections_first_version_is_refused_by_its_number_unless_the_user_knows_better(checkpoint, tmp_path):
    path = checkpoint({"meta": {"mmdet_version": "1.2.0+unknown"}, "state_dict": mmdetection_weights()})
    with pytest.raises(ValueError, match=r"says that mmdetection 1.2.0\+unknown wrote it, .*name its preset"):
        import_detector(path)
    # Files that mmdetection 2 offers, but were written before its release.
    config = import_detector(path, preset="mmdet/faster-rcnn_r50_fpn_1x_coco").config
    path = checkpoint({"meta": {"mmdet_version": "2.25.1"}, "state_dict": mmdetection_weights()})
    assert import_detector(path).config == config


def test_first_versions_boxes_are_refused_in_configurations(checkpoint, tmp_path):
    (tmp_path / "config.py").write_text(
        "model = dict(rpn_head=dict(bbox_coder=dict(type='LegacyDeltaXYWHBBoxCoder')))\n"
    )
    with pytest.raises(ValueError, match=r"rpn_head.bbox_coder.type must be .*Received: 'LegacyDelta"):
        import_detector(checkpoint(mmdetection_weights()), config=tmp_path / "config.py")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("backbone=dict(depth=101, base_channels=8)", r"backbone.depths is \(3, 4, 23, 3\), .*weights \(1, 1, 1, 1\)"),
        ("backbone=dict(type='ResNet')", "width of the first stage is 64, that of the weights 8"),
        ("neck=dict(out_channels=256)", "neck.channels is 256, that of the weights 16"),
        ("roi_head=dict(bbox_head=dict(num_classes=80))", "number of classes is 80, that of the weights 3"),
        ("roi_head=dict(mask_head=dict(num_convs=4))", "mask head is True, that of the weights False"),
        (
            "backbone=dict(base_channels=8, dcn=dict(type='DCNv2'), stage_with_dcn=(False, True, True, True))",
            r"backbone.dcn_stages is \(3, 4, 5\), that of the weights \(\)",
        ),
        (
            "roi_head=dict(bbox_roi_extractor=dict(roi_layer=dict(type='DeformRoIPoolPack')))",
            "box_head.pooling is 'v1', that of the weights 'none'",
        ),
    ],
)
def test_a_configuration_of_another_detector_is_refused(checkpoint, tmp_path, model, message):
    config = tmp_path / "config.py"
    config.write_text(f"model = dict({model})\n")
    path = checkpoint(mmdetection_weights())
    with pytest.raises(ValueError, match=rf"model.pth: .*config.py describes another detector .*{message}") as caught:
        import_detector(path, config=config)
    assert "\n" not in str(caught.value)
    # The same inside the checkpoint, as mmdetection 3 and 2 write it.
    for key in ("cfg", "config"):
        path = checkpoint({"meta": {key: config.read_text()}, "state_dict": mmdetection_weights()})
        with pytest.raises(ValueError, match=f"configuration inside describes another detector .*{message}"):
            import_detector(path)


@pytest.mark.parametrize(
    "line",
    [
        "model = dict(backbone=dict(dcn=dict(type='DCNv2'), stage_with_dcn=5))",
        "model = dict(backbone=dict(dcn=dict(type='DCNv4')))",
        "model = dict(rpn_head=dict(anchor_generator=dict(scales=8, strides=[4])))",
        "model = dict(rpn_head=dict(anchor_generator=dict(ratios=[0])))",
        "model = dict(rpn_head=dict(loss_bbox='L1Loss'))",
        "model = dict(data_preprocessor=dict(mean=1))",
        "test_pipeline = [1]",
        "test_pipeline = dict(type='Resize', scale=1)",
    ],
)
def test_configurations_with_odd_entries_are_refused_in_a_line(checkpoint, tmp_path, line):
    path = checkpoint({"meta": ["cfg"], "state_dict": mmdetection_weights()})
    (tmp_path / "config.py").write_text(line + "\n")
    with pytest.raises(ValueError, match="model.pth: ") as caught:
        import_detector(path, config=tmp_path / "config.py")
    assert "\n" not in str(caught.value)


def test_the_configuration_inside_an_mmdetection_2_checkpoint_is_read(checkpoint):
    text = (
        "model = dict(type='FasterRCNN', roi_head=dict(bbox_roi_extractor=dict(roi_layer=dict("
        "type='RoIAlign', out_size=7, sample_num=2))))\n"
        "test_cfg = dict(rcnn=dict(score_thr=0.001, nms=dict(type='nms', iou_thr=0.6), max_per_img=50))\n"
        "data = dict(test=dict(pipeline=[dict(type='MultiScaleFlipAug', img_scale=(600, 400))]))\n"
        "total_epochs = 12\n"
    )
    meta = {"mmdet_version": "2.0.0", "config": text, "epoch": 12}
    config = import_detector(checkpoint({"meta": meta, "state_dict": mmdetection_weights()})).config
    head = config.box_head
    assert (head.sampling_ratio, head.score_threshold, head.nms_iou, head.max_detections) == (2, 0.001, 0.6, 50)
    assert (config.short_side, config.max_side) == (400, 600)


@pytest.mark.parametrize(
    ("text", "message"),
    [("model = dict(", "configuration inside does not parse"), ("model = load()", "read as data, which `load\\(\\)`")],
)
def test_a_configuration_inside_that_cannot_be_read_is_named(checkpoint, text, message):
    path = checkpoint({"meta": {"config": text}, "state_dict": mmdetection_weights()})
    with pytest.raises(ValueError, match=f"model.pth: .*{message}") as caught:
        import_detector(path)
    assert "\n" not in str(caught.value)


def test_deformable_stages_other_than_the_weights_are_refused(checkpoint, tmp_path):
    weights, config = mmdetection_weights(), tmp_path / "config.py"
    for stage in ("layer3", "layer4"):
        weights[f"backbone.{stage}.0.conv2.conv_offset.weight"] = np.zeros([54, 8, 3, 3], np.float32)
        weights[f"backbone.{stage}.0.conv2.conv_offset.bias"] = np.zeros(54, np.float32)
    path = checkpoint(weights)

    def imported(kind, groups, stages):
        dcn = f"dict(type='{kind}', deform_groups={groups})"
        config.write_text(f"model = dict(backbone=dict(base_channels=8, dcn={dcn}, stage_with_dcn={stages}))\n")
        return import_detector(path, config=config).config.backbone

    # 54 channels are three groups of the first version or two of the second, which only a configuration tells.
    for kind, groups, expected in (("DCN", 3, "v1"), ("DCNv2", 2, "v2")):
        backbone = imported(kind, groups, (False, False, True, True))
        assert (backbone.dcn, backbone.dcn_stages, backbone.deformable_groups) == (expected, (4, 5), groups)
    with pytest.raises(ValueError, match=r"backbone.dcn_stages is \(3, 4, 5\), that of the weights \(4, 5\)"):
        imported("DCNv2", 2, (False, True, True, True))
    with pytest.raises(ValueError, match="number of offset channels is 108, that of the weights 54"):
        imported("DCNv2", 4, (False, False, True, True))


def test_a_preset_of_another_detector_is_refused(checkpoint):
    path = checkpoint(torchvision_weights(masks=False))
    with pytest.raises(ValueError, match="'torchvision/maskrcnn_resnet50_fpn' describes another .* mask head is True"):
        import_detector(path, preset="torchvision/maskrcnn_resnet50_fpn")
    with pytest.raises(
        ValueError, match="fpn_v2' describes another detector .* neck.norm is 'frozen_batch', .* 'none'"
    ):
        import_detector(path, preset="torchvision/fasterrcnn_resnet50_fpn_v2")
    path = checkpoint(mmdetection_weights())
    with pytest.raises(ValueError, match=r"backbone.dcn_stages is \(3, 4, 5\), that of the weights \(\)"):
        import_detector(path, preset="mmdet/faster-rcnn_r50_fpn_mdconv-c3-c5_1x_coco")


def test_a_preset_of_another_depth_is_refused_for_weights_of_a_known_one(checkpoint):
    path = checkpoint(mmdetection_weights(depths=(3, 4, 23, 3)))
    assert import_detector(path).config.backbone.depths == (3, 4, 23, 3)
    with pytest.raises(ValueError, match=r"backbone.depths is \(3, 4, 6, 3\), that of the weights \(3, 4, 23, 3\)"):
        import_detector(path, preset="mmdet/faster-rcnn_r50_fpn_1x_coco")

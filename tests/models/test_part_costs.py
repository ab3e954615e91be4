"""What detectors cost, compared with the ops that run, and what is stored of the presets."""

import math

import keras
import numpy as np
import preset_costs
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_callbacks

from tests.support.detectors import MASK_HEAD, tiny_config
from tf_dcnv2.layers import make_deformable
from tf_dcnv2.models import RPN, BoxHead, C5Neck, DetectorConfig, FasterRCNN, KerasBackbone
from tf_dcnv2.models.cost import Cost
from tf_dcnv2.models.part_costs import default_image_size, detector_cost, parts_cost, total_cost
from tf_dcnv2.models.presets import load_preset, preset_cost, preset_names

NUM_CLASSES = 7


def make_detector(config: DetectorConfig):
    return config.build(range(1, NUM_CLASSES + 1))


def parts_of(detector) -> dict:
    names = ("backbone", "neck", "rpn", "box_head", "mask_head")
    return {name: getattr(detector, name) for name in names if hasattr(detector, name)}


def shallow(name: str) -> DetectorConfig:
    """A preset with two blocks in each stage: the others repeat the second, and take most of the time.

    The box head is narrower, since most of the weights are those of its first layer.
    """
    config = load_preset(name)
    depths = [min(depth, 2) for depth in config.backbone.depths]
    return config.replace(**{"backbone.depths": depths, "box_head.units": 64})


class MultiplyAdds:
    """Adds up the multiply-adds of the ops that run, from the shapes they run with."""

    def __init__(self):
        self.total = 0
        self.seen = set()

    def __call__(self, op_type, inputs, attrs, outputs, op_name=None, graph=None):
        op_type = op_type.decode() if isinstance(op_type, bytes) else op_type
        count = getattr(self, "_" + op_type.rpartition(">")[2], None)
        if count is not None:
            self.seen.add(op_type)
            self.total += count([tuple(tensor.shape) for tensor in inputs], tuple(outputs[0].shape))

    def _Conv2D(self, inputs, output):
        return math.prod(output[:3]) * math.prod(inputs[1])

    def _Conv2DBackpropInput(self, inputs, output):  # a transposed convolution
        return math.prod(inputs[2][:3]) * math.prod(inputs[1])

    def _DepthwiseConv2dNative(self, inputs, output):
        return math.prod(output) * math.prod(inputs[1][:2])

    def _MatMul(self, inputs, output):
        return math.prod(inputs[0]) * inputs[1][1]

    def _DeformConv2D(self, inputs, output):
        x, kernel = inputs[:2]
        return math.prod(output[:3]) * (math.prod(kernel) + 4 * math.prod(kernel[:2]) * x[3])

    def _DeformRoiPool(self, inputs, output):
        return math.prod(output) * 4 * 4


def executed(function, *arguments) -> tuple[MultiplyAdds, object]:
    counter = MultiplyAdds()
    op_callbacks.add_op_callback(counter)
    try:
        return counter, function(*arguments)
    finally:
        op_callbacks.remove_op_callback(counter)


def multiply_adds_that_run(detector, image_size) -> tuple[dict[str, int], set[str]]:
    """Those of each part for 20 proposals and 5 detections, and the kinds of ops."""
    counts, seen = {}, set()

    def count(name, function, *arguments):
        counter, result = executed(function, *arguments)
        counts[name] = counter.total
        seen.update(counter.seen)
        return result

    features = count("backbone", detector.backbone, tf.zeros([1, *image_size, 3]))
    features = count("neck", detector.neck, features)
    count("rpn", detector.rpn, features["rpn"])
    boxes = np.random.default_rng(0).uniform(0, 40, [1, 20, 4]).astype("float32")
    boxes[..., 2:] += 50
    count("box_head", detector.box_head, features["roi"], tf.constant(boxes))
    if detector.has_mask_head:
        count("mask_head", detector.mask_head, features["roi"], tf.constant(boxes[0, :5]), tf.zeros([5], tf.int32))
    return counts, seen


# Sizes at which the maps of a dilated stage are even: TensorFlow pads others before it dilates.
WHOLE = [
    ("faster_rcnn_r50_dcnv1", (96, 160)),
    ("mask_rcnn_r50_c5_dcnv2", (96, 128)),
    ("mask_rcnn_r50_dconv_c3_c5", (97, 131)),
    ("faster_rcnn_r50_dconv_c2_c5", (96, 128)),
    ("faster_rcnn_r50_fpn_dcnv2", (97, 131)),
    ("faster_rcnn_x101_32x4d_regular", (96, 128)),
    ("mask_rcnn_x101_32x4d_dcnv2", (97, 131)),
    ("faster_rcnn_small_dcnv1", (171, 133)),
    ("mask_rcnn_small_dcnv2", (171, 133)),
]
GROUP_NORM = {"backbone.norm": "group", "backbone.deformable_groups": 2, "mask_head": MASK_HEAD}


@pytest.mark.parametrize(
    ("config", "image_size"),
    [
        (shallow("faster_rcnn_r50_dcnv1"), (96, 160)),
        (shallow("mask_rcnn_r50_c5_dcnv2"), (96, 128)),
        (shallow("mask_rcnn_r50_dconv_c3_c5"), (97, 131)),
        (shallow("mask_rcnn_x101_32x4d_dcnv2"), (97, 131)),
        (load_preset("mask_rcnn_small_dcnv1"), (171, 133)),
        (tiny_config("c5", **GROUP_NORM), (96, 64)),
        (tiny_config("fpn", dcn="none", **{"backbone.groups": 2, "backbone.width_per_group": 32}), (77, 101)),
        (tiny_config("fpn", **{"backbone.stride_in": "3x3", "backbone.deformable_groups": 2}), (77, 101)),
        *(pytest.param(load_preset(name), size, marks=pytest.mark.slow, id=name) for name, size in WHOLE),
    ],
)
def test_the_cost_of_every_part_is_that_of_its_layers_and_of_the_ops_that_run(native_ops, config, image_size):
    config = config.replace(**{"rpn.proposals": [20, 20], "box_head.max_detections": 5})
    detector = make_detector(config)
    counts, seen = multiply_adds_that_run(detector, image_size)
    costs = detector_cost(config, NUM_CLASSES, image_size)
    assert {name: cost.multiply_adds for name, cost in costs.items()} == counts
    assert {name: cost.parameters for name, cost in costs.items()} == {
        name: part.count_params() for name, part in parts_of(detector).items()
    }
    assert {"Conv2D", "MatMul", "Dcnv2>DeformRoiPool"} <= seen
    assert ("Dcnv2>DeformConv2D" in seen) == (config.backbone.dcn != "none")


def test_a_detector_of_parts_of_ones_own_is_counted_as_it_is(native_ops):
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same")(image)
    x = keras.layers.DepthwiseConv2D(3, strides=4, padding="same", name="c4")(x)
    x = keras.layers.Conv2D(12, 3, padding="same", name="c5")(x)
    network = make_deformable(keras.Model(image, x), where=["c5"])
    backbone = KerasBackbone(network, {"C4": "c4", "C5": "c5"})
    neck = C5Neck(backbone.strides, backbone.channels, channels=16)
    rpn = RPN(neck.strides["rpn"], neck.channels["rpn"], channels=16, proposals=(20, 20))
    head = BoxHead(NUM_CLASSES, neck.strides["roi"], neck.channels["roi"], units=32)
    detector = FasterRCNN(backbone, neck, rpn, head, category_ids=range(1, NUM_CLASSES + 1))
    counts, seen = multiply_adds_that_run(detector, (65, 90))
    assert {name: cost.multiply_adds for name, cost in parts_cost(detector, (65, 90)).items()} == counts
    assert {"DepthwiseConv2dNative", "Dcnv2>DeformConv2D"} <= seen
    assert sum(cost.parameters for cost in parts_cost(detector).values()) == detector.count_params()


def test_counting_a_configuration_makes_no_weights(monkeypatch):
    made = []
    monkeypatch.setattr(keras.Variable, "_initialize", lambda variable, value: made.append(variable))
    assert total_cost(tiny_config(), NUM_CLASSES, (64, 64)).parameters > 0
    with keras.StatelessScope():  # at whose end Keras makes up for what it has put off
        pass
    assert made == []
    keras.layers.Dense(1).build((None, 1))
    assert len(made) == 2


def test_the_cost_is_that_of_an_image_of_four_by_three_at_the_detectors_size():
    config = load_preset("faster_rcnn_r50_dcnv2")
    assert default_image_size(config) == (1000, 1333)
    assert default_image_size(config.replace(max_side=1200)) == (1000, 1200)
    small = load_preset("faster_rcnn_small_dcnv2")
    assert detector_cost(small) == detector_cost(small, 80, (320, 427))


@pytest.mark.parametrize(
    "name",
    [
        "faster_rcnn_small_dcnv1",
        "mask_rcnn_small_dcnv2",
        "faster_rcnn_r50_regular",  # with a dilated C5
        "mask_rcnn_r50_mdconv_c3_c5_mdpool_800",
    ],
)
def test_the_stored_cost_of_a_preset_is_that_of_its_configuration(name):
    parts = detector_cost(load_preset(name))
    assert preset_cost(name) == sum(parts.values(), Cost())
    assert ("mask_head" in parts) == name.startswith("mask_rcnn")


@pytest.mark.slow
def test_the_stored_costs_of_all_presets_are_up_to_date():
    assert preset_costs.main(["--check"]) == 0


def test_every_preset_has_a_stored_cost_to_which_mimicking_adds_nothing():
    costs = {}
    for name in preset_names():
        config = load_preset(name).replace(**{"mimic.rois": "none"})
        assert costs.setdefault(config, preset_cost(name)) == preset_cost(name)


def test_deformable_convolutions_add_little():
    """Paper sec. 5.2: "the added parameters and FLOPs [...] are minor"."""
    for detector in ("faster_rcnn", "mask_rcnn"):
        regular, deformable = (preset_cost(f"{detector}_r50_{row}") for row in ("regular", "dconv_c3_c5"))
        assert regular.parameters < deformable.parameters < 1.02 * regular.parameters
        assert regular.multiply_adds < deformable.multiply_adds < 1.03 * regular.multiply_adds

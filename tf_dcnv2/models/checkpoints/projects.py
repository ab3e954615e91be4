"""How torchvision, detectron2 and mmdetection name the weights of a detector, and how they count classes.

Every name is translated to that of this package's weight; layouts follow from the weight, see `layout`.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping

from tf_dcnv2.models.weights.pytorch_weights import CONV_WEIGHTS, NORM_WEIGHTS, translate_resnet_name


@dataclasses.dataclass(frozen=True)
class Project:
    """What has to be known of a project to read its checkpoints.

    Attributes:
        name: of the project.
        anchor: a weight that every detector of the project has, and none of the others.
        background: where its class logits have the background.
        has_background_boxes: whether boxes and masks have the background too, as their first class.
        body: prefix of the backbone's weights.
        layers: regular expression of a layer's name -> the layer's name here, in which `{0}` is the number found in it,
            `{level}` that number of a pyramid level, `{next}` the number after it, and `{rest}` that one where it is 2
            or more. A name that ends with "_norm" is that of a normalisation.
        ignored: regular expression of a weight's name -> why it is not needed.
        body_names: changes the rest of the backbone's names to torchvision's.
    """

    name: str
    anchor: str
    background: str
    has_background_boxes: bool
    body: str
    layers: Mapping[str, str]
    ignored: Mapping[str, str]
    body_names: Callable[[str], str] = lambda name: name

    def translate(self, name: str) -> str | None:
        """The path of the variable here that a weight is for, `None` if it is not known."""
        if name.startswith(self.body):
            translated = translate_resnet_name(self.body_names(name.removeprefix(self.body)))
            if translated is not None:
                return translated
        layer, _, parameter = name.rpartition(".")
        for pattern, target in self.layers.items():
            match = re.fullmatch(pattern, layer)
            parameters = NORM_WEIGHTS if target.endswith("_norm") else CONV_WEIGHTS
            if match and parameter in parameters:
                number = int(next((group for group in match.groups() if group), 0))
                rest = str(number + 1) if number else ""
                return f"{target.format(number, level=number + 2, next=number + 1, rest=rest)}/{parameters[parameter]}"
        return None

    def reason_to_ignore(self, name: str) -> str | None:
        """Why a weight that cannot be translated is not needed; `None` if that is not known."""
        return next((why for pattern, why in self.ignored.items() if re.fullmatch(pattern, name)), None)


_COUNTER = {r".*\.num_batches_tracked": "a counter of training steps"}

TORCHVISION = Project(
    name="torchvision",
    anchor=r"backbone\.fpn\.inner_blocks\.0(\.0)?\.weight",
    background="first",
    has_background_boxes=True,
    body="backbone.body.",
    layers={
        r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?": "neck/lateral{level}",
        r"backbone\.fpn\.inner_blocks\.(\d)\.1": "neck/lateral{level}_norm",
        r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?": "neck/p{level}",
        r"backbone\.fpn\.layer_blocks\.(\d)\.1": "neck/p{level}_norm",
        r"rpn\.head\.conv(?:\.(\d)\.0)?": "rpn/shared{rest}",
        r"rpn\.head\.cls_logits": "rpn/objectness",
        r"rpn\.head\.bbox_pred": "rpn/boxes",
        r"roi_heads\.box_head\.fc6": "box_head/fc1",
        r"roi_heads\.box_head\.fc7": "box_head/fc2",
        r"roi_heads\.box_head\.(\d)\.0": "box_head/conv{next}",
        r"roi_heads\.box_head\.(\d)\.1": "box_head/conv{next}_norm",
        r"roi_heads\.box_head\.\d": "box_head/fc1",
        r"roi_heads\.box_predictor\.cls_score": "box_head/classifier",
        r"roi_heads\.box_predictor\.bbox_pred": "box_head/regressor",
        r"roi_heads\.mask_head\.mask_fcn(\d)": "mask_head/conv{0}",
        r"roi_heads\.mask_head\.(\d)\.0": "mask_head/conv{next}",
        r"roi_heads\.mask_head\.(\d)\.1": "mask_head/conv{next}_norm",
        r"roi_heads\.mask_predictor\.conv5_mask": "mask_head/upsampling",
        r"roi_heads\.mask_predictor\.mask_fcn_logits": "mask_head/classifier",
    },
    ignored=_COUNTER,
)


def _mmdetection_pooling(extractor: str, head: str) -> dict[str, str]:
    """The branches of deformable RoI pooling, which every level has for itself."""
    layers = rf"roi_head\.{extractor}_roi_extractor\.roi_layers\.(\d)"
    return {
        rf"{layers}\.offset_fc\.0": f"{head}/pooling/offset_branch_{{0}}/hidden_1",
        rf"{layers}\.offset_fc\.2": f"{head}/pooling/offset_branch_{{0}}/hidden_2",
        rf"{layers}\.offset_fc\.4": f"{head}/pooling/offset_branch_{{0}}/predictor",
        rf"{layers}\.mask_fc\.0": f"{head}/pooling/mask_branch_{{0}}/hidden_1",
        rf"{layers}\.mask_fc\.2": f"{head}/pooling/mask_branch_{{0}}/predictor",
    }


MMDETECTION = Project(
    name="mmdetection",
    anchor=r"neck\.lateral_convs\.0\.conv\.weight",
    background="last",
    has_background_boxes=False,
    body="backbone.",
    layers={
        r"neck\.lateral_convs\.(\d)\.conv": "neck/lateral{level}",
        r"neck\.fpn_convs\.(\d)\.conv": "neck/p{level}",
        r"rpn_head\.rpn_conv(?:\.(\d)\.conv)?": "rpn/shared{rest}",
        r"rpn_head\.rpn_cls": "rpn/objectness",
        r"rpn_head\.rpn_reg": "rpn/boxes",
        r"roi_head\.bbox_head\.shared_fcs\.(\d)": "box_head/fc{next}",
        r"roi_head\.bbox_head\.fc_cls": "box_head/classifier",
        r"roi_head\.bbox_head\.fc_reg": "box_head/regressor",
        r"roi_head\.mask_head\.convs\.(\d)\.conv": "mask_head/conv{next}",
        r"roi_head\.mask_head\.upsample": "mask_head/upsampling",
        r"roi_head\.mask_head\.conv_logits": "mask_head/classifier",
        **_mmdetection_pooling("bbox", "box_head"),
        **_mmdetection_pooling("mask", "mask_head"),
    },
    ignored=_COUNTER,
)


def _detectron2_body(name: str) -> str:
    """`res2.0.conv1.norm.weight` -> `layer1.0.bn1.weight`."""
    name = name.removeprefix("stem.")
    name = re.sub(r"^res(\d)\.", lambda match: f"layer{int(match[1]) - 1}.", name)
    name = re.sub(r"conv(\d)\.norm\.", r"bn\1.", name)
    return name.replace("shortcut.norm.", "downsample.1.").replace("shortcut.", "downsample.0.")


DETECTRON2 = Project(
    name="detectron2",
    anchor=r"backbone\.fpn_lateral2\.weight",
    background="last",
    has_background_boxes=False,
    body="backbone.bottom_up.",
    body_names=_detectron2_body,
    layers={
        r"backbone\.fpn_lateral(\d)": "neck/lateral{0}",
        r"backbone\.fpn_output(\d)": "neck/p{0}",
        r"proposal_generator\.rpn_head\.conv(?:\.conv(\d))?": "rpn/shared{rest}",
        r"proposal_generator\.rpn_head\.objectness_logits": "rpn/objectness",
        r"proposal_generator\.rpn_head\.anchor_deltas": "rpn/boxes",
        r"roi_heads\.box_head\.fc(\d)": "box_head/fc{0}",
        r"roi_heads\.box_predictor\.cls_score": "box_head/classifier",
        r"roi_heads\.box_predictor\.bbox_pred": "box_head/regressor",
        r"roi_heads\.mask_head\.mask_fcn(\d)": "mask_head/conv{0}",
        r"roi_heads\.mask_head\.deconv": "mask_head/upsampling",
        r"roi_heads\.mask_head\.predictor": "mask_head/classifier",
    },
    ignored={
        **_COUNTER,
        r"pixel_(mean|std)": "normalisation of pixels, which the configuration has",
        r"(proposal_generator\.)?anchor_generator\.cell_anchors\.\d": "anchors, which the configuration describes",
    },
)

PROJECTS = (TORCHVISION, MMDETECTION, DETECTRON2)


def project_of(names: Iterable[str]) -> Project:
    """The project whose names these are.

    Raises:
        ValueError: it is none of those known, or the detector is not one that can be loaded.
    """
    names = list(names)
    for project in PROJECTS:
        if any(re.fullmatch(project.anchor, name) for name in names):
            return project
    raise ValueError(
        "The names are not those of a Faster or Mask R-CNN with a feature pyramid of torchvision, detectron2 or "
        f"mmdetection (version 2 or later). The first are {', '.join(names[:3])}. Weights of a ResNet alone are loaded "
        "with FasterRCNN.from_preset(name, weights=path)."
    )

"""Detector configuration: small frozen dataclasses that validate themselves.

A configuration is plain data: it round-trips through dictionaries (YAML presets, `.keras` files, a run's
`config.yaml`), and `replace` returns a changed copy, addressed by dotted keys as on the command line.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from tf_dcnv2.models.settings import Settings

Deformation = Literal["none", "v1", "v2"]
Normalization = Literal["frozen_batch", "batch", "group"]


@dataclasses.dataclass(frozen=True)
class BackboneConfig(Settings):
    """A bottleneck ResNet or ResNeXt, stages 2 to 5.

    Attributes:
        depths: blocks of stages 2..5.
        widths: of stages 2..5; a stage's output has four times as many channels, and so many as its width is what
            the 3x3 convolutions of a ResNet have.
        groups, width_per_group: of the 3x3 convolutions of a ResNeXt, "32x4d" being 32 and 4: they have
            `width * width_per_group / 64 * groups` channels.
        stem_width: channels of the 7x7 stem.
        stride_in: the convolution of a stage's first block that has the stride: the first "1x1" (keras.applications,
            Caffe) or the "3x3" (torchvision, ResNeXt).
        dcn: which convolution replaces the 3x3 ones in `dcn_stages`: none, deformable (v1), modulated (v2).
        dcn_stages: subset of 2..5; by default the paper's, (5,) for v1 and (3, 4, 5) for v2.
        deformable_groups: offset fields per layer.
        norm: "frozen_batch" when fine-tuning ImageNet weights, "batch" or "group" when training from scratch.
        norm_momentum: of the moving averages of "batch".
        norm_epsilon: added to variances; keras.applications' value, torchvision's is 1e-5.
        dilated_c5: stage 5 keeps stride 16 and dilates its 3x3 convolutions by 2 (paper sec. 3.3).
        frozen_stages: stem and stages 2..frozen_stages do not train; 1 freezes only the stem, 0 nothing.
        preprocessing: "caffe" (BGR, ImageNet mean subtracted, as keras.applications' weights want), "torch" (RGB,
            ImageNet mean and deviation, as torchvision's want) or "unit" (RGB scaled to [-1, 1]).
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    groups: int = 1
    width_per_group: int = 64
    stem_width: int = 64
    stride_in: Literal["1x1", "3x3"] = "1x1"
    dcn: Deformation = "none"
    dcn_stages: tuple[int, ...] | None = None
    deformable_groups: int = 1
    norm: Normalization = "frozen_batch"
    norm_momentum: float = 0.99
    norm_epsilon: float = 1.001e-5
    dilated_c5: bool = False
    frozen_stages: int = 0
    preprocessing: Literal["caffe", "torch", "unit"] = "caffe"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dcn_stages is None:
            object.__setattr__(self, "dcn_stages", {"v1": (5,), "v2": (3, 4, 5)}.get(self.dcn, ()))
        self._require(len(self.depths) == 4 and min(self.depths) >= 1, "depths", "four positive block counts")
        self._require(len(self.widths) == 4 and min(self.widths) >= 1, "widths", "four positive channel counts")
        self._require(self.groups >= 1, "groups", "at least 1")
        self._require(
            self.width_per_group >= 1 and all(width * self.width_per_group % 64 == 0 for width in self.widths),
            "width_per_group",
            f"positive, and width_per_group / 64 of every width a whole number (widths={self.widths})",
        )
        self._require(self.norm_epsilon > 0, "norm_epsilon", "positive")
        self._require(set(self.dcn_stages) <= {2, 3, 4, 5}, "dcn_stages", "a subset of (2, 3, 4, 5)")
        self._require(
            (self.dcn == "none") == (not self.dcn_stages),
            "dcn_stages",
            f"empty exactly when dcn is 'none' (dcn={self.dcn!r})",
        )
        self._require(0 <= self.frozen_stages <= 5, "frozen_stages", "between 0 and 5")


@dataclasses.dataclass(frozen=True)
class NeckConfig(Settings):
    """Which feature maps the RPN and the RoI head see.

    Attributes:
        kind: "c5": RPN on C4, RoI head on C5 reduced by a 1x1 convolution (Faster R-CNN of the paper, sec. 5).
            "fpn": feature pyramid; RPN on every level, RoI head on all but the coarsest when that is P6.
        channels: of the RoI features (and of every pyramid level).
        levels: pyramid levels of "fpn", e.g. (2, 3, 4, 5, 6); level l has stride 2**l.
        canonical_size: side in pixels of a RoI that is pooled from level 4; half the side, one level finer. 224 in
            the FPN paper; less for small images, whose objects would otherwise all use the finest level.
    """

    kind: Literal["c5", "fpn"] = "c5"
    channels: int = 256
    levels: tuple[int, ...] = (2, 3, 4, 5, 6)
    canonical_size: float = 224.0

    def __post_init__(self) -> None:
        super().__post_init__()
        consecutive = tuple(range(self.levels[0], self.levels[0] + len(self.levels))) if self.levels else ()
        self._require(
            bool(self.levels) and self.levels == consecutive and self.levels[0] >= 2 and self.levels[-1] <= 6,
            "levels",
            "consecutive levels between 2 and 6",
        )
        self._require(self.canonical_size > 0, "canonical_size", "positive pixels")


@dataclasses.dataclass(frozen=True)
class RPNConfig(Settings):
    """Region proposal network (paper sec. 5): anchors, sampling, proposals.

    Attributes:
        anchor_sizes: side in pixels of the square anchors. "c5": all sizes at the one level; "fpn": one per level.
        aspect_ratios: width / height of each anchor size.
        channels: of the 3x3 convolution.
        positive_iou, negative_iou: anchors above the first are objects, below the second background.
        samples: anchors per image that enter the loss, at most half of them objects.
        pre_nms: best anchors per level that enter NMS, (training, inference).
        proposals: kept after NMS per image, (training, inference).
        nms_iou: overlap above which the weaker of two proposals is dropped.
    """

    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    channels: int = 512
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    samples: int = 256
    pre_nms: tuple[int, ...] = (12000, 6000)
    proposals: tuple[int, ...] = (2000, 1000)
    nms_iou: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(bool(self.anchor_sizes) and min(self.anchor_sizes) > 0, "anchor_sizes", "positive pixels")
        self._require(bool(self.aspect_ratios) and min(self.aspect_ratios) > 0, "aspect_ratios", "positive ratios")
        self._require(0 < self.negative_iou <= self.positive_iou <= 1, "negative_iou", "in (0, positive_iou]")
        self._require(len(self.pre_nms) == 2 and min(self.pre_nms) > 0, "pre_nms", "(training, inference) counts")
        self._require(len(self.proposals) == 2 and min(self.proposals) > 0, "proposals", "(training, inference) counts")
        self._require(0 < self.nms_iou <= 1, "nms_iou", "in (0, 1]")
        self._require(self.samples > 0, "samples", "positive")


@dataclasses.dataclass(frozen=True)
class BoxHeadConfig(Settings):
    """Fast R-CNN head: RoI pooling, two fully connected layers, classes and class-specific boxes.

    Attributes:
        pooling: "none" is RoIAlign, "v1" deformable, "v2" modulated deformable RoI pooling (paper eq. 2).
        pool_size: bins per side.
        pool_branch_units: width of the pooling layer's own offset branch.
        units: width of the two fully connected layers.
        samples, positive_fraction: RoIs per image that enter the loss.
        positive_iou: overlap from which a RoI is an object.
        box_weights: scale of the encoded (y, x, h, w).
        score_threshold, nms_iou, max_detections: of the final detections.
    """

    pooling: Deformation = "none"
    pool_size: int = 7
    pool_branch_units: int = 1024
    units: int = 1024
    samples: int = 512
    positive_fraction: float = 0.25
    positive_iou: float = 0.5
    box_weights: tuple[float, ...] = (10.0, 10.0, 5.0, 5.0)
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.pool_size >= 1, "pool_size", "at least 1")
        self._require(self.units >= 1, "units", "at least 1")
        self._require(self.samples >= 1, "samples", "at least 1")
        self._require(0 < self.positive_fraction <= 1, "positive_fraction", "in (0, 1]")
        self._require(0 < self.positive_iou <= 1, "positive_iou", "in (0, 1]")
        self._require(len(self.box_weights) == 4 and min(self.box_weights) > 0, "box_weights", "four positive numbers")
        self._require(0 <= self.score_threshold < 1, "score_threshold", "in [0, 1)")
        self._require(self.max_detections >= 1, "max_detections", "at least 1")


@dataclasses.dataclass(frozen=True)
class MaskHeadConfig(Settings):
    """Mask head of Mask R-CNN (He et al., arXiv:1703.06870): RoI pooling, convolutions, an upsampling, class masks.

    Attributes:
        pooling: "none" is RoIAlign, "v1" deformable, "v2" modulated deformable RoI pooling (paper eq. 2).
        pool_size: bins per side; masks have twice as many pixels per side.
        pool_branch_units: width of the pooling layer's own offset branch.
        convolutions, channels: number and width of the 3x3 convolutions; the upsampling is as wide.
    """

    pooling: Deformation = "none"
    pool_size: int = 14
    pool_branch_units: int = 1024
    convolutions: int = 4
    channels: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.pool_size >= 1, "pool_size", "at least 1")
        self._require(self.convolutions >= 0, "convolutions", "non-negative")
        self._require(self.channels >= 1, "channels", "at least 1")


@dataclasses.dataclass(frozen=True)
class MimicConfig(Settings):
    """R-CNN feature mimicking (paper sec. 4.3); see `FeatureMimicking`.

    Attributes:
        rois: RoIs that are mimicked (paper table 3); "none" trains without mimicking.
        rois_per_image: size of the set Omega.
        patch_size: side in pixels the crops are resized to.
        mimic_weight, classification_weight: of the two losses.
        reduction: over Omega: "sum" as in eq. 3, or "mean".
        stop_gradient: treat the R-CNN feature as a fixed target.
    """

    rois: Literal["none", "positive", "negative", "all"] = "none"
    rois_per_image: int = 32
    patch_size: int = 224
    mimic_weight: float = 0.1
    classification_weight: float = 0.1
    reduction: Literal["sum", "mean"] = "sum"
    stop_gradient: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.rois_per_image >= 1, "rois_per_image", "at least 1")
        self._require(self.patch_size >= 32 and self.patch_size % 32 == 0, "patch_size", "a positive multiple of 32")
        self._require(self.mimic_weight >= 0, "mimic_weight", "non-negative")
        self._require(self.classification_weight >= 0, "classification_weight", "non-negative")


@dataclasses.dataclass(frozen=True)
class DetectorConfig(Settings):
    """Everything that defines a Faster R-CNN or Mask R-CNN but its classes.

    Attributes:
        mask_head: None for Faster R-CNN.
        weight_decay: L2 coefficient of convolution and dense kernels.
        short_side, max_side: the image size in pixels the detector is meant for: shorter side resized to the first,
            longer side never beyond the second. Data pipelines read them; the network takes any size.
    """

    backbone: BackboneConfig = BackboneConfig(dilated_c5=True)
    neck: NeckConfig = NeckConfig()
    rpn: RPNConfig = RPNConfig()
    box_head: BoxHeadConfig = BoxHeadConfig()
    mask_head: MaskHeadConfig | None = None
    mimic: MimicConfig = MimicConfig()
    weight_decay: float = 1e-4
    short_side: int = 1000
    max_side: int = 1666

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.weight_decay >= 0, "weight_decay", "non-negative")
        self._require(0 < self.short_side <= self.max_side, "short_side", "in (0, max_side]")
        if self.neck.kind == "fpn" and len(self.rpn.anchor_sizes) != len(self.neck.levels):
            raise ValueError(
                "RPNConfig.anchor_sizes needs one size per pyramid level. "
                f"Received: anchor_sizes={self.rpn.anchor_sizes}, NeckConfig.levels={self.neck.levels}"
            )
        if self.backbone.dilated_c5 != (self.neck.kind == "c5"):
            raise ValueError(
                "BackboneConfig.dilated_c5 belongs to NeckConfig.kind='c5', with features of stride 16, not to 'fpn'. "
                f"Received: dilated_c5={self.backbone.dilated_c5}, kind={self.neck.kind!r}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DetectorConfig":
        """Builds a configuration from nested dictionaries; keys left out keep their defaults.

        Raises:
            ValueError: an unknown key or a value out of range; the message names it.
        """
        return _from_dict(cls, values, "")

    def replace(self, **overrides: Any) -> "DetectorConfig":
        """A changed copy. Keys are field names or dotted paths, such as `**{"box_head.samples": 128}`."""
        values = self.to_dict()
        for path, value in overrides.items():
            *parents, leaf = path.split(".")
            node = values
            for depth, parent in enumerate(parents):
                node = node.get(parent)
                if not isinstance(node, dict):
                    section = ".".join(parents[: depth + 1])
                    raise ValueError(f"No configuration section named {section!r} (in {path!r}).")
            if isinstance(node.get(leaf), dict) and isinstance(value, Mapping):
                value = {**node[leaf], **value}
            node[leaf] = value
        return DetectorConfig.from_dict(values)


def _from_dict(cls: type, values: Mapping[str, Any], path: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"{path.rstrip('.') or 'configuration'} must be a mapping of settings. Received: {values!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"Unknown setting {path + unknown[0]!r}. Known: {', '.join(path + name for name in fields)}")
    arguments = dict(values)
    for name, value in values.items():
        section = _section_class(fields[name].type)
        if section is not None and not (value is None and fields[name].default is None):
            arguments[name] = _from_dict(section, value, f"{path}{name}.")
    return cls(**arguments)


def _section_class(field_type: Any) -> type | None:
    """The dataclass of a section's type, `Config` or `Config | None`; None for a plain setting."""
    return next((t for t in (field_type, *get_args(field_type)) if dataclasses.is_dataclass(t)), None)

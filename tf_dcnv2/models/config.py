"""Detector configuration: small frozen dataclasses that validate themselves.

A configuration is plain data: it round-trips through dictionaries (YAML presets, `.keras` files, a run's
`config.yaml`), and `replace` returns a changed copy, addressed by dotted keys as on the command line.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import keras

from tf_dcnv2._core.checked_types import (
    MinLength,
    MultipleOf,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
)
from tf_dcnv2._core.settings import Settings
from tf_dcnv2.data.images.resizing import Resizing

Deformation = Literal["none", "v1", "v2"]
Normalization = Literal["frozen_batch", "batch", "group"]
FixedNormalization = Literal["none", "frozen_batch"]  # of neck and heads
IntersectionOverUnion = Annotated[float, Range(above=0, maximum=1)]
PerStage = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]  # of stages 2 to 5
Intensity = Annotated[float, Range(0, 255)]
TrainingAndInference = tuple[PositiveInt, PositiveInt]


@dataclasses.dataclass(frozen=True)
class BackboneConfig(Settings):
    """A bottleneck ResNet or ResNeXt, stages 2 to 5.

    Attributes:
        depths: blocks of stages 2..5.
        widths: of stages 2..5; a stage's output has four times as many channels, and so many as its width is what
            the 3x3 convolutions of a ResNet have.
        groups: groups of the 3x3 convolutions; 32 in a ResNeXt "32x4d".
        width_per_group: channels of a group in a stage of width 64, 4 in a ResNeXt "32x4d"; the 3x3 convolutions have
            `width * width_per_group / 64 * groups` channels.
        stem_width: channels of the 7x7 stem.
        stride_in: the convolution of a stage's first block that has the stride: the first "1x1" (keras.applications,
            Caffe) or the "3x3" (torchvision, ResNeXt).
        dcn: which convolution replaces the 3x3 ones in `dcn_stages`: none, deformable (v1), modulated (v2).
        dcn_stages: subset of 2..5; by default the paper's, (5,) for v1 and (3, 4, 5) for v2.
        deformable_groups: offset fields per layer.
        offset_clip: bound of the offsets' absolute values in cells of a layer's input; None for none.
        offset_learning_rate_multiplier: learning rate of the offset branches, relative to the optimizer's.
        norm: "frozen_batch" when fine-tuning ImageNet weights, "batch" or "group" when training from scratch.
        norm_momentum: of the moving averages of "batch".
        norm_epsilon: added to variances; keras.applications' value, torchvision's is 1e-5, and 0 in the detectors that
            it offers trained on COCO.
        dilated_c5: stage 5 keeps stride 16 and dilates its 3x3 convolutions by 2 (paper sec. 3.3).
        frozen_stages: stem and stages 2..frozen_stages do not train; 1 freezes only the stem, 0 nothing.
        rematerialize: a training step keeps the outputs of stages only, and computes what is within them again for its
            gradients: less memory for another forward pass of the backbone. Results are the same to rounding.
        preprocessing: "caffe" (BGR, ImageNet mean subtracted, as keras.applications' weights want), "torch" (RGB,
            ImageNet mean and deviation, as torchvision's want), "unit" (RGB scaled to [-1, 1]), or "rgb" and "bgr"
            (`pixel_mean` subtracted, then divided by `pixel_deviation`, in this order of channels).
        pixel_mean: of each channel, 0..255; for "rgb" and "bgr" only.
        pixel_deviation: of each channel, likewise.
    """

    depths: PerStage = (3, 4, 6, 3)
    widths: PerStage = (64, 128, 256, 512)
    groups: PositiveInt = 1
    width_per_group: PositiveInt = 64
    stem_width: PositiveInt = 64
    stride_in: Literal["1x1", "3x3"] = "1x1"
    dcn: Deformation = "none"
    dcn_stages: tuple[Annotated[int, Range(2, 5)], ...] | None = None
    deformable_groups: PositiveInt = 1
    offset_clip: PositiveFloat | None = None
    offset_learning_rate_multiplier: NonNegativeFloat = 0.1
    norm: Normalization = "frozen_batch"
    norm_momentum: Annotated[float, Range(0, below=1)] = 0.99
    norm_epsilon: NonNegativeFloat = 1.001e-5
    dilated_c5: bool = False
    frozen_stages: Annotated[int, Range(0, 5)] = 0
    rematerialize: bool = False
    preprocessing: Literal["caffe", "torch", "unit", "rgb", "bgr"] = "caffe"
    pixel_mean: tuple[Intensity, Intensity, Intensity] | None = None
    pixel_deviation: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pixel_mean", "pixel_deviation"):
            self._require(
                (getattr(self, name) is None) == (self.preprocessing not in ("rgb", "bgr")),
                name,
                f"given exactly when preprocessing is 'rgb' or 'bgr' (preprocessing={self.preprocessing!r})",
            )
        if self.dcn_stages is None:
            object.__setattr__(self, "dcn_stages", {"v1": (5,), "v2": (3, 4, 5)}.get(self.dcn, ()))
        self._require(
            all(width * self.width_per_group % 64 == 0 for width in self.widths),
            "width_per_group",
            f"such that width_per_group / 64 of every width is a whole number (widths={self.widths})",
        )
        self._require(
            (self.dcn == "none") == (not self.dcn_stages),
            "dcn_stages",
            f"empty exactly when dcn is 'none' (dcn={self.dcn!r})",
        )


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
        norm: what follows each convolution of "fpn": nothing, which then has a bias, or a batch normalisation that does
            not train, as in torchvision's second versions.
        norm_epsilon: added to its variances.
    """

    kind: Literal["c5", "fpn"] = "c5"
    channels: PositiveInt = 256
    levels: Annotated[tuple[Annotated[int, Range(2, 6)], ...], MinLength(1)] = (2, 3, 4, 5, 6)
    canonical_size: PositiveFloat = 224.0
    norm: FixedNormalization = "none"
    norm_epsilon: NonNegativeFloat = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.norm == "none" or self.kind == "fpn", "norm", "'none' with kind='c5'")
        consecutive = tuple(range(self.levels[0], self.levels[0] + len(self.levels)))
        self._require(self.levels == consecutive, "levels", "consecutive levels")


@dataclasses.dataclass(frozen=True)
class RPNConfig(Settings):
    """Region proposal network (paper sec. 5): anchors, sampling, proposals.

    Attributes:
        anchor_sizes: side in pixels of the square anchors. "c5": all sizes at the one level; "fpn": one per level.
        aspect_ratios: width / height of each anchor size.
        anchor_offset: where in a cell the centre of its anchors lies, in strides: 0.5 in the middle, 0 at the top left,
            as in torchvision, detectron2 and mmdetection.
        anchor_rounding: whether corners of anchors are rounded to whole pixels around the centre, as in torchvision.
        anchor_stride: from anchor to anchor, "level": the stride of the level; "image": the padded image's size divided
            by the number of cells and rounded down, as in torchvision, where P6 has less than 64 pixels.
        convolutions: number of 3x3 convolutions.
        channels: of each of them.
        positive_iou: overlap from which an anchor is an object.
        negative_iou: overlap below which an anchor is background, at most `positive_iou`; in between it is not sampled.
        samples: anchors per image that enter the loss, at most half of them objects.
        pre_nms: best anchors per level that enter NMS, (training, inference).
        proposals: kept after NMS per image, (training, inference).
        nms_iou: overlap above which the weaker of two proposals is dropped.
        smallest_side: proposals with a shorter side, in pixels, are dropped, and empty ones always.
        box_loss_beta: where the smooth L1 loss of boxes becomes linear; 0 is the L1 loss.
        delta_limits: which predicted log sizes are limited to log(1000 / 16): "above", or "both" those far above and
            far below 0, as in mmdetection.
    """

    anchor_sizes: Annotated[tuple[PositiveFloat, ...], MinLength(1)] = (32, 64, 128, 256, 512)
    aspect_ratios: Annotated[tuple[PositiveFloat, ...], MinLength(1)] = (0.5, 1.0, 2.0)
    anchor_offset: Annotated[float, Range(0, below=1)] = 0.5
    anchor_rounding: bool = False
    anchor_stride: Literal["level", "image"] = "level"
    convolutions: PositiveInt = 1
    channels: PositiveInt = 512
    positive_iou: IntersectionOverUnion = 0.7
    negative_iou: IntersectionOverUnion = 0.3
    samples: PositiveInt = 256
    pre_nms: TrainingAndInference = (12000, 6000)
    proposals: TrainingAndInference = (2000, 1000)
    nms_iou: IntersectionOverUnion = 0.7
    smallest_side: NonNegativeFloat = 0.0
    box_loss_beta: NonNegativeFloat = 1.0 / 9.0
    delta_limits: Literal["above", "both"] = "above"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.negative_iou <= self.positive_iou, "negative_iou", "in (0, positive_iou]")


@dataclasses.dataclass(frozen=True)
class BoxHeadConfig(Settings):
    """Fast R-CNN head: RoI pooling, convolutions if any, fully connected layers, classes and class-specific boxes.

    Attributes:
        pooling: "none" is RoIAlign, "v1" deformable, "v2" modulated deformable RoI pooling (paper eq. 2).
        pool_size: bins per side.
        pool_branch_units: width of the pooling layer's own offset branch.
        pool_branch_per_level: whether deformable pooling has such a branch for each level, as in mmdetection.
        pool_mask_branch: whether the modulation of "v2" has a branch of its own, with one hidden layer, as in
            mmdetection.
        pool_convention: where deformable pooling has its bins: "aligned", as RoIAlign, or "mxnet", as the original
            implementation; see `tf_dcnv2.ops.deform_roi_pool`.
        sampling_ratio: samples a bin and axis; 0 takes as many as the bin has feature pixels.
        aligned: whether RoIs are shifted by half a feature pixel, so that pixels are sampled at their centres.
        convolutions: number of 3x3 convolutions between the pooling and the fully connected layers.
        conv_channels: of each of them.
        norm: what follows each of them, as in `NeckConfig`.
        norm_epsilon: added to its variances.
        fully_connected: number of fully connected layers.
        units: width of each of them.
        samples: RoIs per image that enter the loss.
        positive_fraction: part of these, at most, that are objects.
        positive_iou: overlap from which a RoI is an object.
        box_weights: scale of the encoded (y, x, h, w).
        score_threshold: score that a final detection must exceed.
        nms_iou: overlap above which the weaker of two detections of a class is dropped.
        max_detections: final detections per image, the best ones.
        smallest_side: detections with a shorter side, in pixels, are dropped, and empty ones always.
        box_loss_beta: where the smooth L1 loss of boxes becomes linear; 0 is the L1 loss.
        delta_limits: as in `RPNConfig`.
        class_agnostic: one box for all classes instead of one for each.
    """

    pooling: Deformation = "none"
    pool_size: PositiveInt = 7
    pool_branch_units: PositiveInt = 1024
    pool_branch_per_level: bool = False
    pool_mask_branch: bool = False
    pool_convention: Literal["aligned", "mxnet"] = "aligned"
    sampling_ratio: NonNegativeInt = 2
    aligned: bool = True
    convolutions: NonNegativeInt = 0
    conv_channels: PositiveInt = 256
    norm: FixedNormalization = "none"
    norm_epsilon: NonNegativeFloat = 1e-5
    fully_connected: Annotated[int, Range(1, 2)] = 2
    units: PositiveInt = 1024
    samples: PositiveInt = 512
    positive_fraction: Annotated[float, Range(above=0, maximum=1)] = 0.25
    positive_iou: IntersectionOverUnion = 0.5
    box_weights: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = (10.0, 10.0, 5.0, 5.0)
    score_threshold: Annotated[float, Range(0, below=1)] = 0.05
    nms_iou: IntersectionOverUnion = 0.5
    max_detections: PositiveInt = 100
    smallest_side: NonNegativeFloat = 0.0
    box_loss_beta: NonNegativeFloat = 1.0
    delta_limits: Literal["above", "both"] = "above"
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_pooling(self)


@dataclasses.dataclass(frozen=True)
class MaskHeadConfig(Settings):
    """Mask head of Mask R-CNN (He et al., arXiv:1703.06870): RoI pooling, convolutions, an upsampling, class masks.

    Attributes:
        pooling: "none" is RoIAlign, "v1" deformable, "v2" modulated deformable RoI pooling (paper eq. 2).
        pool_size: bins per side; masks have twice as many pixels per side.
        pool_branch_units: width of the pooling layer's own offset branch.
        pool_branch_per_level: as in `BoxHeadConfig`, like the next two.
        pool_mask_branch: see above.
        pool_convention: see above.
        sampling_ratio: samples a bin and axis; 0 takes as many as the bin has feature pixels.
        aligned: whether RoIs are shifted by half a feature pixel, so that pixels are sampled at their centres.
        convolutions: number of 3x3 convolutions.
        channels: of each of them, and of the upsampling.
        norm: what follows each of them, as in `NeckConfig`.
        norm_epsilon: added to its variances.
        whole_pixels: whether masks are pasted to whole pixels, see `tf_dcnv2.evaluation.paste_mask`.
    """

    pooling: Deformation = "none"
    pool_size: PositiveInt = 14
    pool_branch_units: PositiveInt = 1024
    pool_branch_per_level: bool = False
    pool_mask_branch: bool = False
    pool_convention: Literal["aligned", "mxnet"] = "aligned"
    sampling_ratio: NonNegativeInt = 2
    aligned: bool = True
    convolutions: NonNegativeInt = 4
    channels: PositiveInt = 256
    norm: FixedNormalization = "none"
    norm_epsilon: NonNegativeFloat = 1e-5
    whole_pixels: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_pooling(self)


def _check_pooling(config: BoxHeadConfig | MaskHeadConfig) -> None:
    """Refuses settings of a branch that the pooling has not, or of bins that it cannot have."""
    config._require(
        config.pooling != "none" or not config.pool_branch_per_level,
        "pool_branch_per_level",
        "False with pooling='none', which has no branch",
    )
    config._require(
        config.pooling == "v2" or not config.pool_mask_branch,
        "pool_mask_branch",
        f"False unless pooling='v2', which has a modulation (pooling={config.pooling!r})",
    )
    config._require(
        config.pool_convention == "aligned"
        or (config.pooling != "none" and config.aligned and config.sampling_ratio > 0),
        "pool_convention",
        "'aligned' unless pooling is deformable, aligned=True and sampling_ratio at least 1 "
        f"(pooling={config.pooling!r}, aligned={config.aligned}, sampling_ratio={config.sampling_ratio})",
    )


@dataclasses.dataclass(frozen=True)
class MimicConfig(Settings):
    """R-CNN feature mimicking (paper sec. 4.3); see `FeatureMimicking`.

    Attributes:
        rois: RoIs that are mimicked (paper table 3); "none" trains without mimicking.
        rois_per_image: size of the set Omega.
        patch_size: side in pixels the crops are resized to.
        mimic_weight: factor of the cosine distance (paper eq. 3).
        classification_weight: factor of the cross-entropy of the R-CNN branch.
        reduction: over Omega: "sum" as in eq. 3, or "mean".
        stop_gradient: treat the R-CNN feature as a fixed target.
    """

    rois: Literal["none", "positive", "negative", "all"] = "none"
    rois_per_image: PositiveInt = 32
    patch_size: Annotated[int, Range(1), MultipleOf(32)] = 224
    mimic_weight: NonNegativeFloat = 0.1
    classification_weight: NonNegativeFloat = 0.1
    reduction: Literal["sum", "mean"] = "sum"
    stop_gradient: bool = False


@dataclasses.dataclass(frozen=True)
class DetectorConfig(Settings):
    """Everything that defines a Faster R-CNN or Mask R-CNN but its classes.

    Attributes:
        mask_head: None for Faster R-CNN.
        weight_decay: L2 coefficient of convolution and dense kernels.
        short_side: pixels to which the shorter side of an image is resized. Data pipelines read it; the network takes
            any size.
        max_side: most pixels of the longer side, for which the shorter one becomes smaller where it has to.
        resizing: whose arithmetic resizes images, see `tf_dcnv2.data.prepare_image`.
    """

    backbone: BackboneConfig = BackboneConfig(dilated_c5=True)
    neck: NeckConfig = NeckConfig()
    rpn: RPNConfig = RPNConfig()
    box_head: BoxHeadConfig = BoxHeadConfig()
    mask_head: MaskHeadConfig | None = None
    mimic: MimicConfig = MimicConfig()
    weight_decay: NonNegativeFloat = 1e-4
    short_side: PositiveInt = 1000
    max_side: PositiveInt = 1666
    resizing: Resizing = "tensorflow"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.short_side <= self.max_side, "short_side", "in (0, max_side]")
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

    def build(self, category_ids: Sequence[int], name: str | None = None) -> Any:
        """Puts the detector together.

        Args:
            category_ids: the data set's category ids.
            name: of the model.

        Returns:
            A `MaskRCNN` if there is a `mask_head`, a `FasterRCNN` otherwise.

        Example:
            >>> config = load_preset("faster_rcnn_small_dcnv2").replace(short_side=400)
            >>> detector = config.build(category_ids=(1, 2, 3))
        """
        # By Keras' registry, because detectors are made of parts that take their settings from this module.
        kind = "FasterRCNN" if self.mask_head is None else "MaskRCNN"
        return keras.saving.get_registered_object(f"tf_dcnv2>{kind}").from_settings(self, category_ids, name=name)

"""How detectors are made without putting their parts together by hand."""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from tf_dcnv2.models.assembly import build_parts
from tf_dcnv2.models.categories import CategoryMap, given_category_ids
from tf_dcnv2.models.checkpoints import import_detector
from tf_dcnv2.models.config import DetectorConfig
from tf_dcnv2.models.loss_model import LossModel
from tf_dcnv2.models.presets import load_preset, preset_model_name
from tf_dcnv2.models.weights import WeightReport, load_weights

_Detector = TypeVar("_Detector", bound="DetectorConstructors")


class DetectorConstructors(LossModel):
    """Makes a detector of a preset, of another project's checkpoint or of a configuration.

    Attributes:
        weight_report: what became of each weight of the file that the detector was made with; None without one.
        has_mask_head: whether configurations of the class have a mask head.
    """

    weight_report: WeightReport | None = None
    has_mask_head = False

    @classmethod
    def from_preset(
        cls: type[_Detector],
        name: str,
        num_classes: int | None = None,
        *,
        category_ids: Sequence[int] | None = None,
        weights: str | None = None,
        **overrides: Any,
    ) -> _Detector:
        """Builds the detector of a preset.

        Args:
            name: one of the class' `presets`, or of another project's detectors, such as
                "torchvision/maskrcnn_resnet50_fpn".
            num_classes: number of categories without background; their ids are then 1..num_classes.
            category_ids: the data set's ids, instead of `num_classes`.
            weights: None, "imagenet" (keras.applications' weights for the backbone), the path of a `.keras` or
                `.weights.h5` file of a backbone or a whole detector, or that of a PyTorch checkpoint (`.pth`, `.pt` or
                `.safetensors`), of which the backbone is taken; `detector.weight_report` then says what was loaded. See
                `tf_dcnv2.models.weights.load_weights`.
            **overrides: settings of `DetectorConfig` to change, such as `short_side=800` or
                `**{"box_head.samples": 128}`.

        Raises:
            ValueError: unknown preset or setting, or neither or both of `num_classes` and `category_ids`.
        """
        config = load_preset(name).replace(**overrides)
        ids = given_category_ids(num_classes, category_ids)
        detector = cls.from_settings(config, ids, name=preset_model_name(name))
        if weights is not None:
            detector.weight_report = load_weights(detector, weights)
        return detector

    @classmethod
    def from_checkpoint(
        cls: type[_Detector],
        path: str | os.PathLike,
        *,
        preset: str | None = None,
        config: str | os.PathLike | None = None,
        category_ids: Sequence[int] | None = None,
        name: str | None = None,
        **overrides: Any,
    ) -> _Detector:
        """Builds a detector of torchvision, detectron2 or mmdetection from its checkpoint, with its weights.

        Depths, widths, groups and classes are read from the shapes of the weights. What shapes do not tell comes from
        `overrides`, from the project's configuration, and from `preset` or what the project does by default.
        `detector.weight_report` says what became of each weight. No code in the files is run, and PyTorch is not
        needed.

        Args:
            path: a `.pth`, `.pt`, `.pkl` or `.safetensors` file, as the project saves it.
            preset: which of the project's detectors it is, one of `tf_dcnv2.models.source_preset_names()`; seldom
                needed, because what the detectors of a project have in common is known.
            config: the project's own configuration file: `.yaml` of detectron2, `.py` or `.json` of mmdetection; by
                default the one inside the checkpoint.
            category_ids: one for each class; by default COCO's ids where there are 80 classes, and 1, 2, ... otherwise.
            name: of the model.
            **overrides: settings of `DetectorConfig`, such as `short_side=600` or `**{"backbone.norm_epsilon": 1e-5}`.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: the file is damaged, would run code, or is of another detector; the message says what it has.

        Example:
            >>> detector = MaskRCNN.from_checkpoint("mask_rcnn_r50_fpn_mdconv_c3-c5_1x_coco.pth")
            >>> found = detector.detect("street.jpg")
        """
        imported = import_detector(
            path,
            preset=preset,
            config=config,
            category_ids=category_ids,
            overrides=overrides,
        )
        detector = cls.from_settings(imported.config, list(imported.categories), name=name)
        detector.weight_report = imported.assign(detector)
        return detector

    @classmethod
    def from_settings(
        cls: type[_Detector], config: DetectorConfig, category_ids: Sequence[int], *, name: str | None = None
    ) -> _Detector:
        """Builds the detector that `config` describes; see `DetectorConfig.build`.

        Raises:
            ValueError: it has a mask head and this class has none, or the other way round.
        """
        ids = CategoryMap(category_ids).ids
        if cls.has_mask_head != (config.mask_head is not None):
            described = "one" if config.mask_head is not None else "none"
            raise ValueError(
                f"A {cls.__name__} has {'a' if cls.has_mask_head else 'no'} mask head, and the configuration describes "
                f"{described}. Received: mask_head={config.mask_head}"
            )
        parts = build_parts(config, len(ids))
        return cls(
            **parts,
            category_ids=ids,
            short_side=config.short_side,
            max_side=config.max_side,
            resizing=config.resizing,
            name=name,
        )

"""Checkpoints of small random detectors, by the names and in the layout of other projects."""

from collections.abc import Sequence

import numpy as np

_STAGES = ("layer1", "layer2", "layer3", "layer4")


class _Weights(dict):
    """A state dict to which layers are added by name."""

    def __init__(self, seed: int):
        self._rng = np.random.default_rng(seed)

    def layer(self, name: str, *shape: int, bias: bool = True) -> None:
        """A convolution (O, I, kh, kw) or fully connected layer (O, I) that keeps the scale of its input."""
        fan_in = int(np.prod(shape[1:]))
        self[f"{name}.weight"] = (self._rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)
        if bias:
            self[f"{name}.bias"] = 0.1 * self._rng.standard_normal(shape[0]).astype(np.float32)

    def any_norm(self, name: str, channels: int) -> None:
        """A batch normalisation that was trained, with small variances so that its epsilon counts."""
        self[f"{name}.weight"] = self._rng.uniform(0.5, 1.5, channels).astype(np.float32)
        self[f"{name}.bias"] = 0.1 * self._rng.standard_normal(channels).astype(np.float32)
        self[f"{name}.running_mean"] = 0.1 * self._rng.standard_normal(channels).astype(np.float32)
        self[f"{name}.running_var"] = self._rng.uniform(1e-4, 2, channels).astype(np.float32)
        self[f"{name}.num_batches_tracked"] = np.array(100, np.int64)

    def norm(self, name: str, channels: int) -> None:
        """A frozen batch normalisation that changes nothing."""
        self[f"{name}.weight"] = np.ones(channels, np.float32)
        self[f"{name}.bias"] = np.zeros(channels, np.float32)
        self[f"{name}.running_mean"] = np.zeros(channels, np.float32)
        self[f"{name}.running_var"] = np.ones(channels, np.float32)

    def resnet(self, prefix: str, depths: Sequence[int] = (1, 1, 1, 1)) -> None:
        """Blocks of width 8, so many in each stage."""
        self.layer(f"{prefix}conv1", 8, 3, 7, 7, bias=False)
        self.norm(f"{prefix}bn1", 8)
        channels = 8
        for stage, depth in zip(_STAGES, depths, strict=True):
            for block in range(depth):
                name = f"{prefix}{stage}.{block}"
                self.layer(f"{name}.conv1", 8, channels, 1, 1, bias=False)
                self.layer(f"{name}.conv2", 8, 8, 3, 3, bias=False)
                self.layer(f"{name}.conv3", 32, 8, 1, 1, bias=False)
                for number, size in ((1, 8), (2, 8), (3, 32)):
                    self.norm(f"{name}.bn{number}", size)
                if block == 0:
                    self.layer(f"{name}.downsample.0", 32, channels, 1, 1, bias=False)
                    self.norm(f"{name}.downsample.1", 32)
                channels = 32


def torchvision_weights(num_classes: int = 3, masks: bool = True, seed: int = 0) -> dict[str, np.ndarray]:
    """The state dict of a Mask or Faster R-CNN as today's torchvision names it, with frozen normalisation."""
    weights = _Weights(seed)
    weights.resnet("backbone.body.")
    for level in range(4):
        weights.layer(f"backbone.fpn.inner_blocks.{level}.0", 16, 32, 1, 1)
        weights.layer(f"backbone.fpn.layer_blocks.{level}.0", 16, 16, 3, 3)
    weights.layer("rpn.head.conv.0.0", 16, 16, 3, 3)
    weights.layer("rpn.head.cls_logits", 3, 16, 1, 1)
    weights.layer("rpn.head.bbox_pred", 12, 16, 1, 1)
    weights.layer("roi_heads.box_head.fc6", 32, 16 * 49)
    weights.layer("roi_heads.box_head.fc7", 32, 32)
    weights.layer("roi_heads.box_predictor.cls_score", num_classes + 1, 32)
    weights.layer("roi_heads.box_predictor.bbox_pred", 4 * (num_classes + 1), 32)
    if masks:
        for number in range(2):
            weights.layer(f"roi_heads.mask_head.{number}.0", 16, 16, 3, 3)
        weights.layer("roi_heads.mask_predictor.conv5_mask", 16, 16, 2, 2)
        weights.layer("roi_heads.mask_predictor.mask_fcn_logits", num_classes + 1, 16, 1, 1)
    return dict(weights)


def torchvision_v2_weights(num_classes: int = 3) -> dict[str, np.ndarray]:
    """The state dict of a `maskrcnn_resnet50_fpn_v2`: two convolutions in the RPN, four normalised in each head."""
    weights = _Weights(seed=0)
    weights.resnet("backbone.body.")
    for level in range(4):
        weights.layer(f"backbone.fpn.inner_blocks.{level}.0", 16, 32, 1, 1, bias=False)
        weights.any_norm(f"backbone.fpn.inner_blocks.{level}.1", 16)
        weights.layer(f"backbone.fpn.layer_blocks.{level}.0", 16, 16, 3, 3, bias=False)
        weights.any_norm(f"backbone.fpn.layer_blocks.{level}.1", 16)
    for number in range(2):
        weights.layer(f"rpn.head.conv.{number}.0", 16, 16, 3, 3)
    weights.layer("rpn.head.cls_logits", 3, 16, 1, 1)
    weights.layer("rpn.head.bbox_pred", 12, 16, 1, 1)
    for number, channels in enumerate((16, 24, 24, 24)):
        weights.layer(f"roi_heads.box_head.{number}.0", 24, channels, 3, 3, bias=False)
        weights.any_norm(f"roi_heads.box_head.{number}.1", 24)
    weights.layer("roi_heads.box_head.5", 32, 24 * 49)
    weights.layer("roi_heads.box_predictor.cls_score", num_classes + 1, 32)
    weights.layer("roi_heads.box_predictor.bbox_pred", 4 * (num_classes + 1), 32)
    for number, channels in enumerate((16, 20, 20, 20)):
        weights.layer(f"roi_heads.mask_head.{number}.0", 20, channels, 3, 3, bias=False)
        weights.any_norm(f"roi_heads.mask_head.{number}.1", 20)
    weights.layer("roi_heads.mask_predictor.conv5_mask", 20, 20, 2, 2)
    weights.layer("roi_heads.mask_predictor.mask_fcn_logits", num_classes + 1, 20, 1, 1)
    return dict(weights)


def mmdetection_weights(
    num_classes: int = 3, pooling: str = "none", seed: int = 0, depths: Sequence[int] = (1, 1, 1, 1)
) -> dict[str, np.ndarray]:
    """The state dict of a Faster R-CNN as mmdetection names it, with deformable RoI pooling "v1" or "v2" or without."""
    weights = _Weights(seed)
    weights.resnet("backbone.", depths)
    for level in range(4):
        weights.layer(f"neck.lateral_convs.{level}.conv", 16, 32, 1, 1)
        weights.layer(f"neck.fpn_convs.{level}.conv", 16, 16, 3, 3)
    weights.layer("rpn_head.rpn_conv", 16, 16, 3, 3)
    weights.layer("rpn_head.rpn_cls", 3, 16, 1, 1)
    weights.layer("rpn_head.rpn_reg", 12, 16, 1, 1)
    for level in range(4 if pooling != "none" else 0):
        layer = f"roi_head.bbox_roi_extractor.roi_layers.{level}"
        weights.layer(f"{layer}.offset_fc.0", 24, 16 * 49)
        weights.layer(f"{layer}.offset_fc.2", 24, 24)
        weights.layer(f"{layer}.offset_fc.4", 2 * 49, 24)
        if pooling == "v2":
            weights.layer(f"{layer}.mask_fc.0", 24, 16 * 49)
            weights.layer(f"{layer}.mask_fc.2", 49, 24)
    weights.layer("roi_head.bbox_head.shared_fcs.0", 32, 16 * 49)
    weights.layer("roi_head.bbox_head.shared_fcs.1", 32, 32)
    weights.layer("roi_head.bbox_head.fc_cls", num_classes + 1, 32)
    weights.layer("roi_head.bbox_head.fc_reg", 4 * num_classes, 32)
    return dict(weights)

"""Checkpoints of small random detectors, by the names and in the layout of other projects."""

import numpy as np

_STAGES = {"layer1": (8, 1), "layer2": (8, 1), "layer3": (8, 1), "layer4": (8, 1)}


def torchvision_weights(num_classes: int = 3, masks: bool = True, seed: int = 0) -> dict[str, np.ndarray]:
    """The state dict of a Mask or Faster R-CNN as today's torchvision names it, with frozen normalisation."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        fan_in = int(np.prod(shape[1:]))
        weights[f"{name}.weight"] = (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)
        if bias:
            weights[f"{name}.bias"] = 0.1 * rng.standard_normal(shape[0]).astype(np.float32)

    def norm(name: str, channels: int) -> None:
        weights[f"{name}.weight"] = np.ones(channels, np.float32)
        weights[f"{name}.bias"] = np.zeros(channels, np.float32)
        weights[f"{name}.running_mean"] = np.zeros(channels, np.float32)
        weights[f"{name}.running_var"] = np.ones(channels, np.float32)

    layer("backbone.body.conv1", 8, 3, 7, 7, bias=False)
    norm("backbone.body.bn1", 8)
    channels = 8
    for stage, (width, depth) in _STAGES.items():
        for block in range(depth):
            name = f"backbone.body.{stage}.{block}"
            layer(f"{name}.conv1", width, channels, 1, 1, bias=False)
            layer(f"{name}.conv2", width, width, 3, 3, bias=False)
            layer(f"{name}.conv3", 4 * width, width, 1, 1, bias=False)
            for number, size in ((1, width), (2, width), (3, 4 * width)):
                norm(f"{name}.bn{number}", size)
            if block == 0:
                layer(f"{name}.downsample.0", 4 * width, channels, 1, 1, bias=False)
                norm(f"{name}.downsample.1", 4 * width)
            channels = 4 * width
    for level in range(4):
        layer(f"backbone.fpn.inner_blocks.{level}.0", 16, 32, 1, 1)
        layer(f"backbone.fpn.layer_blocks.{level}.0", 16, 16, 3, 3)
    layer("rpn.head.conv.0.0", 16, 16, 3, 3)
    layer("rpn.head.cls_logits", 3, 16, 1, 1)
    layer("rpn.head.bbox_pred", 12, 16, 1, 1)
    layer("roi_heads.box_head.fc6", 32, 16 * 49)
    layer("roi_heads.box_head.fc7", 32, 32)
    layer("roi_heads.box_predictor.cls_score", num_classes + 1, 32)
    layer("roi_heads.box_predictor.bbox_pred", 4 * (num_classes + 1), 32)
    if masks:
        for number in range(2):
            layer(f"roi_heads.mask_head.{number}.0", 16, 16, 3, 3)
        layer("roi_heads.mask_predictor.conv5_mask", 16, 16, 2, 2)
        layer("roi_heads.mask_predictor.mask_fcn_logits", num_classes + 1, 16, 1, 1)
    return weights

"""torchvision's Mask R-CNN, for a process of its own, whose interpreter may lack TensorFlow."""

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

from benchmarks.cpu.detector_process import DETECTIONS, Run, serve_detector
from benchmarks.cpu.synthetic_image import CLASSES, SyntheticImage, synthetic_image


def forward(image_size: Sequence[int]) -> Run:
    """Detects the objects of one image of (height, width) pixels."""
    detector = _detector(image_size).eval()
    images = [_pixels(synthetic_image(*image_size))]

    def run() -> dict[str, float]:
        with torch.inference_mode():
            (found,) = detector(images)
        return {DETECTIONS: len(found["boxes"])}

    return run


def step(image_size: Sequence[int]) -> Run:
    """A training step on one image of (height, width) pixels."""
    detector = _detector(image_size).train()
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    # A rate of zero: every step does all the work on the same weights.
    optimizer = torch.optim.SGD(weights, lr=0.0, momentum=0.9, weight_decay=1e-4)
    image = synthetic_image(*image_size)
    images, targets = [_pixels(image)], [_targets(image)]

    def run() -> dict[str, float]:
        losses = detector(images, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}

    return run


def _detector(image_size: Sequence[int]) -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(
        # What trains is what trains with torchvision's own weights, and in the presets: stages 3 to 5.
        resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3),
        CLASSES + 1,
        # The image is left as large as it is.
        min_size=min(image_size),
        max_size=max(image_size),
        # As many detections as there can be, whatever the weights.
        box_score_thresh=0.0,
    )


def _pixels(image: SyntheticImage) -> torch.Tensor:
    """Channels first, in 0..1."""
    return torch.tensor(image.pixels / 255).permute(2, 0, 1).contiguous()


def _targets(image: SyntheticImage) -> dict[str, torch.Tensor]:
    masks = np.zeros([len(image.boxes), *image.pixels.shape[:2]], np.uint8)
    for mask, (top, left, bottom, right) in zip(masks, image.boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = 1
    return {
        "boxes": torch.tensor(image.boxes[:, [1, 0, 3, 2]]),
        "labels": torch.tensor(image.classes),
        "masks": torch.tensor(masks),
    }


def _use_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    # As TensorFlow does. Gradients of random weights can be so small that processors take many times as long for them.
    torch.set_flush_denormal(True)


if __name__ == "__main__":
    serve_detector(forward, step, _use_threads)

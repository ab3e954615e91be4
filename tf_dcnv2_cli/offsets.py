"""What the offsets of a detector do, in a line, for the commands that run one."""

from typing import TYPE_CHECKING

from tf_dcnv2_cli.console import log

if TYPE_CHECKING:
    import numpy as np

    from tf_dcnv2.models import FasterRCNN


def log_offsets(detector: "FasterRCNN", image: "np.ndarray") -> None:
    """Logs how far the samples of a detector's deformable layers reach on an image, and warns of layers that diverge.

    Args:
        detector: one without deformable layers has no line.
        image: `(H, W, 3)` RGB 0..255, as the network sees it.
    """
    from tf_dcnv2.analysis import predicted_offsets, summarize_offsets
    from tf_dcnv2.models.parts import deformable_convolutions

    if not deformable_convolutions(detector.backbone):
        return
    summary = summarize_offsets(predicted_offsets(detector, image))
    log(
        "offsets",
        f"mean {summary.mean:.1f} px, 99 % of a layer's below {summary.p99:.1f} px, {summary.outside:.0%} of a layer's "
        "samples at most beyond its map, on the first image",
    )
    for warning in summary.warnings.values():
        log("warning", warning)

"""mmdetection's first version, whose detectors compute something else with the same layers."""

import re

from tf_dcnv2.models.weights.checkpoint_files import Checkpoint

# Parts that version 2 moved into "roi_head".
_FIRST_NAMES = re.compile(r"(bbox_head|mask_head|bbox_roi_extractor|mask_roi_extractor)\..*")


def refuse_first_version(checkpoint: Checkpoint, *, is_described: bool) -> None:
    """Refuses checkpoints of mmdetection 1.

    Args:
        checkpoint: of mmdetection.
        is_described: whether the user names its preset or configuration. The version inside a file is believed
            otherwise only: some files that mmdetection 2 offers were written before its release, and say 1.

    Raises:
        ValueError: it is one; the message says what is different and what to do.
    """
    explanation = (
        "which puts the background first among the classes and counts the last pixel of a box in its size (+1): its "
        "detections would be wrong here."
    )
    name = next((name for name in checkpoint.weights if _FIRST_NAMES.fullmatch(name)), None)
    if name is not None:
        raise ValueError(
            f"The weights are those of mmdetection 1, as the name {name} shows, {explanation} Take a checkpoint of "
            "mmdetection 2 or 3 instead."
        )
    version = str(checkpoint.meta.get("mmdet_version", ""))
    if version.startswith(("0.", "1.")) and not is_described:
        raise ValueError(
            f"The file says that mmdetection {version} wrote it, {explanation} If it is a detector that mmdetection 2 "
            "offers, name its preset or configuration."
        )

"""What looks at RoIs: boxes and classes, and masks."""

from tf_dcnv2.models.heads.box_head import BoxHead, Detections
from tf_dcnv2.models.heads.mask_head import MaskHead, mask_of_class

__all__ = ["BoxHead", "Detections", "MaskHead", "mask_of_class"]

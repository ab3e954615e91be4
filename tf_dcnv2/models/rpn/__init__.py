"""The region proposal network: anchors, proposals and what it is trained on."""

from tf_dcnv2.models.rpn.rpn import RPN

__all__ = ["RPN"]

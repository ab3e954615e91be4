"""Connects the parts of a detector: checks that they fit together, and builds each for the outputs of the others."""

from collections.abc import Sequence

import keras

from tf_dcnv2.models.backbones import Backbone
from tf_dcnv2.models.heads.roi_head import RoIHead
from tf_dcnv2.models.necks import Neck
from tf_dcnv2.models.rpn import RPN


def connect(backbone: Backbone, neck: Neck, rpn: RPN) -> None:
    """Builds the parts that all of a detector's heads depend on.

    Their variables have to exist before the first call: optimizers ask for them.

    Raises:
        ValueError: the RPN is not made for the neck's levels.
    """
    _require_levels("rpn", rpn, neck, "rpn")
    _build(backbone, _map_shape(3))
    _build(neck, {level: _map_shape(channels) for level, channels in backbone.channels.items()})
    _build(rpn, [_map_shape(rpn.in_channels)] * len(rpn.strides))


def connect_head(name: str, head: RoIHead, neck: Neck, category_ids: Sequence[int]) -> None:
    """Builds a head that looks at RoIs.

    Args:
        name: of the head, for messages.
        head: to be built.
        neck: whose levels for RoIs it looks at.
        category_ids: of the detector, one for each class.

    Raises:
        ValueError: the head is made for other levels, or for another number of classes.
    """
    _require_levels(name, head, neck, "roi")
    if head.num_classes != len(category_ids):
        raise ValueError(
            f"{name} must have as many classes as there are category ids. "
            f"Received: {name}.num_classes={head.num_classes}, category_ids={category_ids}"
        )
    _build(head, [_map_shape(head.in_channels)] * len(head.strides))


def _require_levels(name: str, part: RPN | RoIHead, neck: Neck, kind: str) -> None:
    wanted, channels = tuple(neck.strides[kind]), neck.channels[kind]
    if tuple(part.strides) != wanted or part.in_channels != channels:
        raise ValueError(
            f"{name} must be made for the levels of the neck, with strides={wanted} and in_channels={channels}. "
            f"Received: {name} with strides={tuple(part.strides)} and in_channels={part.in_channels}"
        )


def _build(part: keras.layers.Layer, input_shape: list | dict | tuple) -> None:
    if not part.built:
        part.build(input_shape)


def _map_shape(channels: int) -> tuple[None, None, None, int]:
    return (None, None, None, channels)

"""The nodes of a network whose spatial support is asked for."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ConvNode:
    """One cell of a feature map: the vector of its channels.

    Attributes:
        layer: name of a layer of a functional or Sequential model, whose output is the map. Of a detector, a layer of
            its backbone, or a level: "C2" to "C5" of the backbone, "P2" to "P6" of the neck. `None` is the output of a
            Keras model.
        row, column: the cell, counted from 0 at the top left.
        channel: one channel; by default all of them.

    Example:
        >>> ConvNode("C5", row=4, column=7)
        ConvNode(layer='C5', row=4, column=7, channel=None)
    """

    layer: str | None
    row: int
    column: int
    channel: int | None = None


@dataclasses.dataclass(frozen=True)
class RoINode:
    """A region of interest in a detector's box head: the feature that its two fully connected layers compute (2-fc).

    Attributes:
        box: `(y1, x1, y2, x2)` in pixels of the image.
        category_id: one of the detector's, for the logit of that class instead of the feature.

    Example:
        >>> RoINode((30.0, 40.0, 130.0, 200.0), category_id=1)
        RoINode(box=(30.0, 40.0, 130.0, 200.0), category_id=1)
    """

    box: tuple[float, float, float, float]
    category_id: int | None = None


Node = ConvNode | RoINode

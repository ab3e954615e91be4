"""The columns of the paper's figures 1 and 2: the spatial support of one node, computed and drawn."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tf_dcnv2 import analysis
from tf_dcnv2.analysis.locations import Layers, NodeSamples
from tf_dcnv2.analysis.nodes import Node
from tf_dcnv2.visualization.drawing import (
    draw_bins,
    draw_box,
    draw_locations,
    draw_node,
    draw_receptive_field,
    draw_region,
)
from tf_dcnv2.visualization.figures import Panel

__all__ = ["ROI_ROWS", "SUPPORT_ROWS", "roi_panels", "support_panels"]

Box = tuple[float, float, float, float]

_LOCATIONS = ("sampling\nlocations", "effective sampling\nlocations")
_FIELD, _REGION = "effective\nreceptive field", "error-bounded\nsaliency region"
SUPPORT_ROWS = (*_LOCATIONS, _FIELD, _REGION)
"""Titles of the rows that `support_panels` fills."""

ROI_ROWS = ("effective bin\nlocations", _FIELD, _REGION)
"""Titles of the rows that `roi_panels` fills."""

# The pictures' shorter side, at which dots and lines are fine.
_SHORT_SIDE_PX = 480


def support_panels(
    model: keras.Model,
    image: Any,
    node: analysis.ConvNode,
    *,
    box: Box | None = None,
    depth: int = 3,
    layers: Layers = None,
    saliency: bool = True,
    bound: float = 0.1,
    progress: Callable[[str, int], None] | None = None,
) -> list[Panel]:
    """Computes and draws the four kinds of spatial support of a node, as a column of the paper's figure 1.

    Args:
        model: a detector, or any Keras model of RGB images 0..255.
        image: `(H, W, 3)` as the model takes it; for a detector, see `tf_dcnv2.analysis.network_image`.
        node: a cell of a feature map.
        box: of the object that the node lies on, `(y1, x1, y2, x2)` in pixels of `image`. It is drawn, and the captions
            tell how much of the support lies inside.
        depth: how many convolutions the locations are those of, the node's own first.
        layers: which convolutions count, as for `tf_dcnv2.analysis.effective_sampling_locations`.
        saliency: whether to search the saliency region, which takes longer than the rest.
        bound: of the saliency region's error.
        progress: see `tf_dcnv2.analysis.error_bounded_saliency`.

    Returns:
        Panels in the order of `SUPPORT_ROWS`; without `saliency` the last one is missing.

    Raises:
        ValueError: the model has no such node on this image, or none of the layers.

    Example:
        >>> panels = support_panels(detector, image, ConvNode("C5", 4, 7), box=(30.0, 40.0, 130.0, 200.0))
        >>> save_panels([panels], "support.png", row_titles=SUPPORT_ROWS)
    """
    zoom = _zoom(image)
    samples = NodeSamples(model, image, node, layers)
    effective = samples.by_layer()[-depth:]
    locations = np.concatenate([layer.locations.reshape(-1, 2) for layer in effective])
    strengths = np.concatenate([layer.strengths.ravel() for layer in effective])
    panels = [
        Panel(draw_locations(image, samples.traced_back(depth), zoom=zoom), _node_name(node)),
        Panel(
            draw_locations(image, locations, strengths, zoom=zoom),
            "" if box is None else _inside(analysis.strength_share(effective, box)),
        ),
        _field_panel(model, image, node, box, zoom),
    ]
    if saliency:
        panels.append(_region_panel(model, image, node, box, zoom, bound, progress))
    return [
        panel._replace(picture=draw_node(_with_box(panel.picture, box, zoom), samples.position, zoom=zoom))
        for panel in panels
    ]


def roi_panels(
    detector: keras.Model,
    image: Any,
    node: analysis.RoINode,
    *,
    saliency: bool = True,
    bound: float = 0.1,
    progress: Callable[[str, int], None] | None = None,
) -> list[Panel]:
    """Computes and draws the spatial support of a RoI's feature, as a column of the paper's figure 2.

    Args:
        detector: a Faster or Mask R-CNN.
        image: `(H, W, 3)` RGB 0..255, see `tf_dcnv2.analysis.network_image`.
        node: the RoI, whose box is drawn; the captions tell how much of the support lies inside.
        saliency: whether to search the saliency region, which takes longer than the rest.
        bound: of the saliency region's error.
        progress: see `tf_dcnv2.analysis.error_bounded_saliency`.

    Returns:
        Panels in the order of `ROI_ROWS`; without `saliency` the last one is missing.

    Raises:
        ValueError: `node` is no RoI on this image.

    Example:
        >>> panels = roi_panels(detector, image, RoINode((30.0, 40.0, 130.0, 200.0)))
        >>> save_panels([panels], "roi.png", row_titles=ROI_ROWS)
    """
    zoom = _zoom(image)
    bins = analysis.effective_bin_locations(detector, image, node)
    picture = draw_bins(image, bins.locations, bins.bin_size, bins.strengths, zoom=zoom)
    panels = [
        Panel(picture, _inside(analysis.strength_share(bins, node.box))),
        _field_panel(detector, image, node, node.box, zoom),
    ]
    if saliency:
        panels.append(_region_panel(detector, image, node, node.box, zoom, bound, progress))
    return [panel._replace(picture=_with_box(panel.picture, node.box, zoom)) for panel in panels]


def _field_panel(model: keras.Model, image: Any, node: Node, box: Box | None, zoom: float) -> Panel:
    field = analysis.effective_receptive_field(model, image, node)
    caption = "" if box is None else _inside(analysis.receptive_field_share(field, box))
    return Panel(draw_receptive_field(image, field, zoom=zoom), caption)


def _region_panel(
    model: keras.Model,
    image: Any,
    node: Node,
    box: Box | None,
    zoom: float,
    bound: float,
    progress: Callable[[str, int], None] | None,
) -> Panel:
    region = analysis.error_bounded_saliency(model, image, node, bound=bound, progress=progress)
    if box is None:
        size = f"{_percent(region.mask.mean())} of the image"
    else:
        size = f"{analysis.saliency_area_ratio(region, box):.2g} times the box"
    return Panel(draw_region(image, region.mask, zoom=zoom), f"error {region.error:.3f} < {bound:g}; {size}")


def _with_box(picture: np.ndarray, box: Box | None, zoom: float) -> np.ndarray:
    return picture if box is None else draw_box(picture, box, zoom=zoom)


def _node_name(node: analysis.ConvNode) -> str:
    return f"{node.layer}, row {node.row}, column {node.column}"


def _inside(share: float) -> str:
    return f"{_percent(share)} inside the box"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _zoom(image: np.ndarray) -> float:
    return max(1.0, _SHORT_SIDE_PX / min(np.shape(image)[:2]))

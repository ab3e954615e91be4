"""Pictures: of detections, of what a network looks at, and of its errors.

Drawing is apart from computing: arrays of `tf_dcnv2.analysis` and of detectors go in, `(H, W, 3)` uint8 pictures come
out, which `save_image` and `save_grid` write. `save_panels` arranges pictures with titles and captions as the paper's
figures do, and writes PNG or SVG; `support_panels` and `roi_panels` compute and draw one column of such a figure. Of an
analysis of `tf_dcnv2.evaluation`, `save_precision_recall`, `save_confusion_matrix` and `save_errors` draw the numbers,
`save_false_detections` and `save_missed_objects` the worst cases.
"""

from tf_dcnv2.visualization.curves import draw_curves
from tf_dcnv2.visualization.detections import class_color, draw_annotations, draw_detections, unwritable_names
from tf_dcnv2.visualization.drawing import (
    draw_bins,
    draw_box,
    draw_locations,
    draw_map,
    draw_node,
    draw_receptive_field,
    draw_region,
)
from tf_dcnv2.visualization.errors import save_false_detections, save_missed_objects
from tf_dcnv2.visualization.figures import Panel, is_figure, save_panels
from tf_dcnv2.visualization.files import save_grid, save_image
from tf_dcnv2.visualization.offsets import save_offsets
from tf_dcnv2.visualization.scores import save_confusion_matrix, save_errors, save_precision_recall
from tf_dcnv2.visualization.support import ROI_ROWS, SUPPORT_ROWS, roi_panels, support_panels

__all__ = [
    "ROI_ROWS",
    "SUPPORT_ROWS",
    "Panel",
    "class_color",
    "draw_annotations",
    "draw_bins",
    "draw_box",
    "draw_curves",
    "draw_detections",
    "draw_locations",
    "draw_map",
    "draw_node",
    "draw_receptive_field",
    "draw_region",
    "is_figure",
    "roi_panels",
    "save_confusion_matrix",
    "save_errors",
    "save_false_detections",
    "save_grid",
    "save_image",
    "save_missed_objects",
    "save_offsets",
    "save_panels",
    "save_precision_recall",
    "support_panels",
    "unwritable_names",
]

"""`tf-dcnv2 export`: a trained detector to a SavedModel."""

import argparse

from tf_dcnv2_cli.arguments import add_run
from tf_dcnv2_cli.console import log

SUMMARY = "write a trained detector as a SavedModel"

DESCRIPTION = """\
Writes a SavedModel for images of any size, which are resized in the graph; boxes are in pixels of each. Signatures:

  serving_default  images, image_sizes -> boxes, scores, classes, num_detections and, for a Mask R-CNN, masks
  serving_bytes    image_bytes: JPEG, PNG, BMP or GIF files -> the same
  network          what a call of the detector takes: resized and padded images

  --ops native    uses the package's custom ops: fast; a program that loads it loads the op library first
  --ops portable  uses TensorFlow's own ops only: runs in any TensorFlow, stock TensorFlow Serving included"""

EXAMPLES = """\
  tf-dcnv2 export runs/cells --output exported/cells
  tf-dcnv2 export runs/cells --output served/cells/1 --ops portable    # TensorFlow Serving wants a version number"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_run(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to create")
    parser.add_argument("--ops", choices=("native", "portable"), default="native", help="default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace a SavedModel that is already there")


def run(arguments: argparse.Namespace) -> None:
    """Exports and says how to load the result."""
    from tf_dcnv2.export import export_saved_model, op_library_path
    from tf_dcnv2_cli.trained import load_trained

    trained = load_trained(arguments.run_path, allow_non_finite=arguments.allow_non_finite)
    log("model", trained)
    export_saved_model(
        trained.detector, arguments.output, arguments.ops, labels=trained.names, overwrite=arguments.overwrite
    )
    log("written", arguments.output)
    log("input", "images uint8 [B,H,W,3] RGB of any size, image_sizes int32 [B,2] height and width of each")
    log("", "image_bytes string [B] JPEG, PNG, BMP or GIF files, for the signature serving_bytes")
    masks = ", masks [B,D,S,S] 0..1 in the frames of the boxes" if trained.detector.has_mask_head else ""
    log("output", f"boxes [B,D,4] y1 x1 y2 x2, scores [B,D], classes [B,D], num_detections [B]{masks}")
    if arguments.ops == "native":
        log("load", f"tf.load_op_library({op_library_path()!r}), then tf.saved_model.load({arguments.output!r})")
    else:
        log("load", f"tf.saved_model.load({arguments.output!r}), or TensorFlow Serving")

"""`tf-dcnv2 export`: a trained detector to a SavedModel or an ONNX file."""

import argparse
from typing import TYPE_CHECKING, Literal

from tf_dcnv2_cli.arguments import add_run
from tf_dcnv2_cli.console import log

if TYPE_CHECKING:
    from tf_dcnv2_cli.trained import Trained

SUMMARY = "write a trained detector as a SavedModel or an ONNX file"

DESCRIPTION = """\
Writes a SavedModel for images of any size, which are resized in the graph; boxes are in pixels of each. Signatures:

  serving_default  images, image_sizes -> boxes, scores, classes, num_detections and, for a Mask R-CNN, masks
  serving_bytes    image_bytes: JPEG, PNG, BMP or GIF files -> the same
  network          what a call of the detector takes: resized and padded images

  --ops native    uses the package's custom ops: fast; a program that loads it loads the op library first
  --ops portable  uses TensorFlow's own ops only: runs in any TensorFlow, stock TensorFlow Serving included

With --format onnx, writes a file of ONNX' own operators, which takes what the signature network does."""

EXAMPLES = """\
  tf-dcnv2 export runs/cells --output exported/cells
  tf-dcnv2 export runs/cells --output served/cells/1 --ops portable    # TensorFlow Serving wants a version number
  tf-dcnv2 export runs/cells --output cells.onnx --format onnx"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_run(parser)
    parser.add_argument("--output", required=True, metavar="PATH", help="folder to create; a file with --format onnx")
    parser.add_argument("--format", choices=("saved_model", "onnx"), default="saved_model", help="default: %(default)s")
    parser.add_argument("--ops", choices=("native", "portable"), help="of a SavedModel; default: native")
    parser.add_argument("--opset", type=int, metavar="N", help="operator set of an ONNX file, 19 to 22; default: 19")
    parser.add_argument("--overwrite", action="store_true", help="replace an export that is already there")


def run(arguments: argparse.Namespace) -> None:
    """Exports and says how to load the result."""
    from tf_dcnv2_cli.trained import load_trained

    if arguments.format == "onnx" and arguments.ops:
        raise ValueError("--ops is for SavedModels: an ONNX file has operators of ONNX alone.")
    if arguments.format == "saved_model" and arguments.opset:
        raise ValueError("--opset is for ONNX files. Add --format onnx.")
    trained = load_trained(arguments.run_path, allow_non_finite=arguments.allow_non_finite)
    log("model", trained)
    export = _onnx if arguments.format == "onnx" else _saved_model
    load = export(trained, arguments)
    masks = ", masks [B,D,S,S] 0..1 in the frames of the boxes" if trained.detector.has_mask_head else ""
    log("output", f"boxes [B,D,4] y1 x1 y2 x2, scores [B,D], classes [B,D], num_detections [B]{masks}")
    log("load", load)


def _saved_model(trained: "Trained", arguments: argparse.Namespace) -> str:
    """Exports, reports, and returns how to load the result."""
    from tf_dcnv2.export import export_saved_model, op_library_path

    output = arguments.output
    ops: Literal["native", "portable"] = arguments.ops or "native"
    export_saved_model(trained.detector, output, ops, labels=trained.names, overwrite=arguments.overwrite)
    log("written", output)
    log("input", "images uint8 [B,H,W,3] RGB of any size, image_sizes int32 [B,2] height and width of each")
    log("", "image_bytes string [B] JPEG, PNG, BMP or GIF files, for the signature serving_bytes")
    if ops == "native":
        return f"tf.load_op_library({op_library_path()!r}), then tf.saved_model.load({output!r})"
    return f"tf.saved_model.load({output!r}), or TensorFlow Serving"


def _onnx(trained: "Trained", arguments: argparse.Namespace) -> str:
    """Exports, reports, and returns how to load the result."""
    from tf_dcnv2.export import export_onnx

    export_onnx(trained.detector, arguments.output, opset=arguments.opset or 19, overwrite=arguments.overwrite)
    log("written", arguments.output)
    log("input", "images float32 [B,H,W,3] RGB 0..255, image_sizes float32 [B,2] height and width without padding")
    return f"onnxruntime.InferenceSession({arguments.output!r})"

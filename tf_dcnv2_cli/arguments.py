"""Arguments that several commands have in common."""

import argparse
import functools
from typing import Any, TypedDict

from tf_dcnv2_cli.errors import UsageError


def positive_int(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received: {text}")
    return value


def positive_number(text: str) -> float:
    """An argparse type: a number greater than 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be positive. Received: {text}")
    return value


# argparse names the type of a word that is no number.
positive_int.__name__, positive_number.__name__ = "int", "float"


def add_box_format(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Adds `--box-format`, which whoever reads the annotation file checks."""
    parser.add_argument(
        "--box-format",
        metavar="FORMAT",
        help="what bbox means in the annotations: xywh, xyxy, yxyx or cxcywh, in pixels or, as in xyxy-normalized and "
        "xyxy-percent, relative to the image (default: xywh, COCO's own, unless the boxes look like another)",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds `RUN`, which names a trained detector."""
    parser.add_argument("run_path", metavar="RUN", help="folder of a training run, or a .keras file")
    _add_allow_non_finite(parser)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Adds `RUN [RUN ...]`, which name trained detectors."""
    parser.add_argument("run_paths", nargs="+", metavar="RUN", help="folders of training runs, or .keras files")
    _add_allow_non_finite(parser)


def _add_allow_non_finite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-non-finite", action="store_true", help="use a detector though its weights are NaN or infinite"
    )


def add_image_size(parser: argparse.ArgumentParser, default: str = "as trained") -> None:
    """Adds `--short-side` and `--max-side` of the network's images; `default` says in words what holds without them."""
    parser.add_argument("--short-side", type=positive_int, metavar="PX", help=f"shorter side (default: {default})")
    parser.add_argument("--max-side", type=positive_int, metavar="PX", help=f"bound of the longer (default: {default})")


def add_augmentation(group: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Adds how training images are changed at random and put together; what is not given stays out of the namespace."""
    add = functools.partial(group.add_argument, default=argparse.SUPPRESS)
    add("--vertical-flip", action="store_true", help="mirror top-bottom too")
    add("--rotate", action="store_true", help="turn by multiples of 90 degrees")
    add(
        "--short-sides",
        type=positive_int,
        nargs="+",
        metavar="PX",
        help="multi-scale: shorter sides to draw from, one for each batch",
    )
    add(
        "--scale-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="random extra scaling (default: 1 1; 0.1 2 with --canvas is large-scale jitter)",
    )
    add(
        "--canvas",
        type=positive_int,
        nargs=2,
        metavar=("H", "W"),
        help="pad every image to this size, crop larger ones",
    )
    add("--color-jitter", type=float, metavar="S", help="colour changes, 0 to 1 (default: 0)")
    add("--copy-paste", type=float, metavar="P", help="share of images with objects pasted onto them (default: 0)")
    add(
        "--aspect-grouping",
        action=argparse.BooleanOptionalAction,
        help="batches of images of similar shape, which need less padding (default: unless there is a canvas)",
    )


class ImageSize(TypedDict):
    """Sides in pixels of the network's images, the arguments of `load_records` and `FasterRCNN.detect`."""

    short_side: int
    max_side: int


def image_size(arguments: argparse.Namespace, detector: Any) -> ImageSize:
    """The image size that `add_image_size` was given; by default that of `detector`.

    A detector that looks at images in several sizes takes them in the largest.
    """
    scale = getattr(detector, "largest_scale", 1.0)
    return {
        "short_side": round(arguments.short_side * scale) if arguments.short_side else detector.short_side,
        "max_side": round(arguments.max_side * scale) if arguments.max_side else detector.max_side,
    }


def add_tta(parser: argparse.ArgumentParser) -> None:
    """Adds `--tta`, test-time augmentation."""
    parser.add_argument(
        "--tta",
        nargs="*",
        type=positive_number,
        metavar="SCALE",
        help="look at each image mirrored too, and in these sizes relative to the usual one (default: 1), and merge "
        "what is found; as many times slower as there are views",
    )


def with_tta(arguments: argparse.Namespace, detector: Any) -> Any:
    """The detector, or with `--tta` one that looks at each image several times."""
    if arguments.tta is None:
        return detector
    from tf_dcnv2.models import AugmentedDetector

    return AugmentedDetector(detector, arguments.tta or (1.0,))


def parse_setting(text: str) -> tuple[str, Any]:
    """Parses `"box_head.samples=128"` to `("box_head.samples", 128)`; the value is YAML."""
    import yaml

    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f"--set takes KEY=VALUE, such as box_head.samples=128. Received: {text!r}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"--set {key}: the value is not valid YAML. Received: {value!r}") from None

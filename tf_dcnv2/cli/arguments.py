"""Arguments that several commands have in common."""

import argparse
from collections.abc import Callable
from typing import TypeVar

from tf_dcnv2._core.checked_types import Range

Number = TypeVar("Number", int, float)


def number_in(bounds: Range, kind: type[Number] = int) -> Callable[[str], Number]:
    """Makes an argparse type of the numbers in `bounds`."""

    def parse(text: str) -> Number:
        value = kind(text)
        if not bounds.allows(value):
            raise argparse.ArgumentTypeError(f"must be {bounds}. Received: {text}")
        return value

    parse.__name__ = kind.__name__  # argparse names the type of a word that is no number
    return parse


positive_int = number_in(Range(1))
positive_number = number_in(Range(above=0), float)


def add_box_format(parser: argparse.ArgumentParser) -> None:
    """`--box-format` of an annotation file; whoever reads the file checks it."""
    parser.add_argument(
        "--box-format",
        metavar="FORMAT",
        help="what bbox means in the annotations: xywh, xyxy, yxyx or cxcywh, in pixels or, as in xyxy-normalized and "
        "xyxy-percent, relative to the image (default: xywh, COCO's own, unless the boxes look like another)",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """`RUN`: which trained detector."""
    parser.add_argument("run_path", metavar="RUN", help="folder of a training run, or a .keras file")
    parser.add_argument(
        "--allow-non-finite", action="store_true", help="use a detector though its weights are NaN or infinite"
    )


def add_image_size(parser: argparse.ArgumentParser) -> None:
    """`--short-side` and `--max-side` of the network's images."""
    parser.add_argument("--short-side", type=positive_int, metavar="PX", help="shorter side (default: as trained)")
    parser.add_argument("--max-side", type=positive_int, metavar="PX", help="bound of the longer (default: as trained)")


def image_size(arguments: argparse.Namespace, detector) -> dict[str, int]:
    """`short_side` and `max_side` as `load_records` and `prepare_image` take them."""
    config = detector.config
    return {
        "short_side": arguments.short_side or config.short_side,
        "max_side": arguments.max_side or config.max_side,
    }

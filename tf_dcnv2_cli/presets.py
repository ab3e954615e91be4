"""`tf-dcnv2 presets`: what there is to choose from, and what it costs."""

import argparse
import re

from tf_dcnv2_cli.errors import UsageError

SUMMARY = "list the presets with their size, their cost and the paper's results"

DESCRIPTION = """\
Lists the presets in the order of the paper's tables. A name has the parts

  {faster_rcnn|mask_rcnn}_{backbone}[_{neck}]_{deformable layers}[_mimic_{RoIs}][_800]

Parameters in millions, and GFLOPs (multiply-adds) of inference on one image of 4:3 at the preset's size, with 80
classes. "added" is what the deformable layers add to the same detector without them: mimicking, which exists in
training only, adds nothing. The paper's AP (box, or box/mask) is given where its text states it; it is not what this
package has been measured to reach."""

EXAMPLES = """\
  tf-dcnv2 presets
  tf-dcnv2 presets --filter small
  tf-dcnv2 presets --filter '^mask_rcnn_r50.*800$' --markdown"""

_COLUMNS = ("preset", "parameters", "added", "GFLOPs", "added", "paper's AP")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--filter", metavar="PATTERN", help="only names with this part: a regular expression")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")


def run(arguments: argparse.Namespace) -> None:
    """Prints the table."""
    from tf_dcnv2.models.presets import preset_names

    try:
        pattern = re.compile(arguments.filter or "")
    except re.error as error:
        raise UsageError(f"--filter: {arguments.filter!r} is no regular expression: {error}") from error
    names = [name for name in preset_names() if pattern.search(name)]
    if not names:
        raise UsageError(f"--filter: no preset's name matches {arguments.filter!r}")
    rows = [_COLUMNS, *map(_row, names)]
    print("\n".join(_markdown(rows) if arguments.markdown else _text(rows)))


def _row(name: str) -> tuple[str, ...]:
    from tf_dcnv2.models.cost import total_cost, without_deformation
    from tf_dcnv2.models.presets import load_preset, paper_ap

    config = load_preset(name)
    cost, regular = total_cost(config), total_cost(without_deformation(config))
    return (
        name,
        f"{cost.parameters / 1e6:.1f} M",
        _added(cost.parameters, regular.parameters),
        f"{cost.multiply_adds / 1e9:.1f}",
        _added(cost.multiply_adds, regular.multiply_adds),
        "/".join(f"{ap:.1f}" for ap in paper_ap(name).values()),
    )


def _added(value: int, base: int) -> str:
    return f"+{100 * (value / base - 1):.1f}%" if value != base else ""


def _text(rows: list[tuple[str, ...]]) -> list[str]:
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, others, strict=True)]
        lines.append("  ".join([name.ljust(first), *padded]).rstrip())
    return lines


def _markdown(rows: list[tuple[str, ...]]) -> list[str]:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return [head, "| --- |" + " ---: |" * (len(_COLUMNS) - 1), *body]

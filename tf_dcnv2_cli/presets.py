"""`tf-dcnv2 presets`: what there is to choose from, and what it costs."""

import argparse
import re
from collections.abc import Sequence

from tf_dcnv2_cli.errors import UsageError

SUMMARY = "list the presets with their size, their cost and the paper's results"

DESCRIPTION = """\
Lists the presets that are rows of the paper's tables, by table; --all and --filter also list others, such as the small
ones for a CPU. A name has the parts

  {faster_rcnn|mask_rcnn}_{backbone}[_{neck}]_{deformable layers}[_mimic_{RoIs}][_800]

Parameters in millions, and GFLOPs (multiply-adds) of inference on one image of 4:3 at the preset's size, with 80
classes. "added" is what the deformable layers add to the same detector without them: mimicking, which exists in
training only, adds nothing. The paper's AP (box, or box/mask) is given where its text states it; it is not what this
package has been measured to reach."""

EXAMPLES = """\
  tf-dcnv2 presets
  tf-dcnv2 presets --all
  tf-dcnv2 presets --filter small
  tf-dcnv2 presets --filter '^mask_rcnn_r50.*800$' --markdown"""

_DETECTOR = "(faster|mask)_rcnn"
_DEFORMABLE_LAYERS = r"(regular|dconv_c\d(_c5)?(_dpool)?|mdconv_c3_c5_mdpool)"
# Patterns of the whole names of each table's rows.
_TABLES = {
    "Table 1: deformable layers": f"{_DETECTOR}_r50_{_DEFORMABLE_LAYERS}",
    "Table 2: deformable layers at 800 pixels": f"{_DETECTOR}_r50_{_DEFORMABLE_LAYERS}_800",
    "Table 3: feature mimicking": f"{_DETECTOR}_r50_(regular(_mimic_positive)?|mdconv_c3_c5_mdpool(_mimic_[a-z]+)?)",
    "Table 4: stronger backbones": f"{_DETECTOR}_(r101|x101_32x4d|x101_64x4d)_(regular|dcnv1|dcnv2)",
}

_COLUMNS = ("preset", "parameters", "added", "GFLOPs", "added", "paper's AP")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="list every preset, in one table")
    which.add_argument("--filter", metavar="PATTERN", help="list names with this part: a regular expression")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")


def run(arguments: argparse.Namespace) -> None:
    """Prints the tables."""
    from tf_dcnv2.models.presets import preset_names

    names = preset_names()
    if arguments.all or arguments.filter:
        tables = {"": _matching(names, arguments.filter or "")}
    else:
        tables = {title: [name for name in names if re.fullmatch(pattern, name)] for title, pattern in _TABLES.items()}
    rows = {name: _row(name) for table in tables.values() for name in table}
    format_table = _markdown if arguments.markdown else _text
    for index, (title, table) in enumerate(tables.items()):
        if title:
            print(("\n" if index else "") + ("### " if arguments.markdown else "") + title)
        print("\n".join(format_table([_COLUMNS, *(rows[name] for name in table)])))


def _matching(names: Sequence[str], text: str) -> list[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"--filter: {text!r} is no regular expression: {error}") from error
    matching = [name for name in names if pattern.search(name)]
    if not matching:
        raise UsageError(f"--filter: no preset's name matches {text!r}")
    return matching


def _row(name: str) -> tuple[str, ...]:
    from tf_dcnv2.models.presets import paper_ap, preset_cost, regular_preset

    cost, regular = preset_cost(name), preset_cost(regular_preset(name))
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

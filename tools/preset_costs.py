"""Counts what every preset costs and writes it to tf_dcnv2/models/presets/costs.yaml, in minutes.

Run it after a change of a preset or of a network. With --check it changes nothing, and fails if the file is not up to
date.
"""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

from tf_dcnv2.models import DetectorConfig
from tf_dcnv2.models.cost import Cost
from tf_dcnv2.models.part_costs import total_cost
from tf_dcnv2.models.presets import load_preset, preset_names

PATH = Path(__file__).parents[1] / "tf_dcnv2" / "models" / "presets" / "costs.yaml"

HEAD = """\
# The cost of each preset, with 80 classes, on one image of 4:3 at the preset's size. Made by tools/preset_costs.py.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare with the file")
    check = parser.parse_args(arguments).check
    text = HEAD
    for name in preset_names():
        line = _line(name)
        print(line, end="", flush=True)
        text += line
    if not check:
        PATH.write_text(text, encoding="utf-8")
        print(f"wrote {PATH}")
    elif PATH.read_text(encoding="utf-8") != text:
        print(f"{PATH} is not up to date: run python tools/preset_costs.py")
        return 1
    return 0


def _line(name: str) -> str:
    # Presets that differ only in how they are trained share the count.
    cost = _cost(load_preset(name).replace(**{"mimic.rois": "none"}))
    return f"{name}: {{parameters: {cost.parameters}, multiply_adds: {cost.multiply_adds}}}\n"


@functools.cache
def _cost(config: DetectorConfig) -> Cost:
    return total_cost(config)


if __name__ == "__main__":
    raise SystemExit(main())

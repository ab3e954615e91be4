"""Random annotation files: a good one in which values, fields and entries are replaced by what should not be there."""

import copy
import json
import math
from typing import Any

import numpy as np

_SMALL = [None, True, False, 0, 1, -1, 2, 3, 7, 160, 120]
_LARGE = [1e9, -1e9, 2e8, 2**31, 2**63, 2**64 + 1, 10**30, -(2**63) - 1]
_FRACTIONS = [0.5, 1.0, 1.5, 40.0, 1e308, math.nan, math.inf, -math.inf, 1e-300]
_TEXTS = ["", " ", "1", "1.0", "01", "red", "nan", "1e5", "-1"]
_FILE_NAMES = ["im1.jpg", "a\\b.jpg", "%20", "..", "/", "\0", "\ud800", "ü" * 300]
_WRITTEN_LISTS = ["111111", "oooo", "PPPP0", "[1, 2, 30, 40]", "[[", "0" * 5000]
_EMPTY = [[], [[]], {}, [[[]]], [None]]
_LISTS = [[1, 2], [1, 2, 30, 40], ["1", "2", "30", "40"], [1, 2, 3, 4, 5, 6], [[1, 2, 3, 4]]]
_POLYGON = [[10, 10], [50, 10], [50, 50]]
_POLYGONS = [_POLYGON, [[2e8, 0, 0, 2e8, 5, 5]], [[math.nan] * 6], [[1, 1, 1, 1, 1, 1]], [[0] * 6, [1]]]
_OBJECTS = [{"x": 1, "y": 2}, {"x": 5, "y": 6, "width": 30, "height": 30}, {"size": [120, 160]}, {"counts": "111"}]
_COUNTS = ["", "111111", "zzz", [19200], [0, 19200], [-1, 19201], [1e300]]
_SIZES = [[160, 120], ["120", "160"], [0, 0], [2**40, 2**40], None]
_GOOD_COUNTS = ["Uh0", [4800, 10, 110, 10, 14270]]
_RUN_LENGTHS = [
    *({"size": [120, 160], "counts": counts} for counts in _COUNTS),
    *({"size": size, "counts": [19200]} for size in _SIZES),
    *({"size": [120, 160], "counts": counts} for counts in _GOOD_COUNTS),
]
_POINTS = [{"all_points_x": [1, 50, 50], "all_points_y": [1, 1, 50]}, {"all_points_x": [1], "all_points_y": []}]
_PLAIN = (*_SMALL, *_LARGE, *_FRACTIONS, *_TEXTS, *_FILE_NAMES, *_WRITTEN_LISTS)
_VALUES: tuple[Any, ...] = (*_PLAIN, *_EMPTY, *_LISTS, *_POLYGONS, *_OBJECTS, *_RUN_LENGTHS, *_POINTS)
_FIELDS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"),
    "categories": ("id", "name"),
}


def random_file(plain: dict, seed: int) -> bytes:
    """An annotation file in which about one value in ten is another one, or gone.

    Args:
        plain: the content of a good file.
        seed: gives another file each.
    """
    rng = np.random.default_rng(seed)
    content = copy.deepcopy(plain)
    for _ in range(rng.integers(1, 7)):
        _change(content, rng)
    text = json.dumps(content)
    if rng.random() < 0.05:
        text = text[: rng.integers(1, len(text))]
    encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16"], p=[0.9, 0.05, 0.05])
    return text.encode(encoding, "surrogatepass")


def _change(content: dict, rng: np.random.Generator) -> None:
    key = rng.choice(["images", "annotations", "categories"], p=[0.25, 0.7, 0.05])
    entries = content.get(key)
    if not isinstance(entries, list) or not entries:
        return
    index = int(rng.integers(len(entries)))
    kind = rng.random()
    if kind < 0.03:
        content[key] = _value(rng)
    elif kind < 0.06:
        del entries[index]
    elif kind < 0.09:
        entries[index] = _value(rng)
    elif kind < 0.12:
        entries.append(copy.deepcopy(entries[index]))
    elif isinstance(entries[index], dict):
        # The same mistake in every entry is what a tool makes, in one entry what a person makes.
        chosen = entries if rng.random() < 0.15 else [entries[index]]
        field, value = rng.choice(_FIELDS[key]), _value(rng)
        for entry in (entry for entry in chosen if isinstance(entry, dict)):
            if kind < 0.2:
                entry.pop(field, None)
            elif kind < 0.4 and isinstance(entry.get(field), list) and entry[field]:
                entry[field] = [*entry[field]]
                entry[field][rng.integers(len(entry[field]))] = value
            else:
                entry[field] = value


def _value(rng: np.random.Generator) -> Any:
    return _VALUES[rng.integers(len(_VALUES))]

"""Single values of annotation files as people's tools write them: numbers as text, flags as text, boxes as objects.

Each function returns the value in the one form that the rest of the package uses, or None where there is none.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}(\.0*)?")
_TRUE = {"1", "1.0", "true", "yes"}
_FALSE = {"0", "0.0", "false", "no", "", "none", "null"}
# JSON readers that know only float64 (JavaScript, pandas) keep integers of up to 53 bits.
_HASH_BITS = 52


def as_number(value: Any) -> float | None:
    """A finite number, given as a number or as text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_id(value: Any) -> int | str | None:
    """An id: an integer if it is one in any notation (`7`, `7.0`, `"7"`), otherwise its text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else None
    if isinstance(value, str):
        text = value.strip()
        if _INTEGER.fullmatch(text):
            return int(text.split(".")[0])
        return text or None
    return None


def id_number(identifier: int | str) -> int:
    """The id as a signed 64-bit integer: itself if it fits, otherwise a hash that is the same in every file."""
    if isinstance(identifier, int) and -(2**63) <= identifier < 2**63:
        return identifier
    digest = hashlib.blake2b(str(identifier).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - _HASH_BITS)


def as_flag(value: Any) -> bool | None:
    """Yes or no, given as a bool, 0 or 1, or text; None for anything else. A missing value is no."""
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return bool(value) if value in (0, 1) else None
    if isinstance(value, str):
        text = value.strip().lower()
        return True if text in _TRUE else False if text in _FALSE else None
    return None


def as_side(value: Any) -> int | None:
    """An image's height or width in pixels; None where tools write that they do not know it (-1, 0, null)."""
    number = as_number(value)
    return int(number) if number is not None and number >= 1 and number.is_integer() and number < 2**31 else None


def as_box(value: Any) -> list[float] | None:
    """Four finite numbers, given as a list of numbers or of text, as the text of such a list, or as an object."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, Mapping):
        for names in (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height")):
            if all(name in value for name in names):
                value = [value[name] for name in names]
                break
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list) or len(value) != 4:
        return None
    numbers = [number for entry in value if (number := as_number(entry)) is not None]
    return numbers if len(numbers) == len(value) else None


def entry_name(item: Any, position: int) -> Any:
    """Names an entry of a list for reports: by its id, or by its place where it has none."""
    if isinstance(item, dict) and item.get("id") is not None:
        return item["id"]
    return f"no. {position + 1}"

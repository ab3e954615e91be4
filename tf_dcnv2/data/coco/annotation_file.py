"""Opens an annotation file: JSON in any encoding, in COCO's object-detection layout."""

import json
import os
from typing import Any

from tf_dcnv2.data.coco.foreign_files import foreign_layout, foreign_text


def load_json(path: str | os.PathLike) -> Any:
    """A JSON file's content, in whichever encoding: UTF-8, UTF-16 and UTF-32 with or without a byte order mark.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"The annotation file does not exist: {name}") from None
    try:
        try:
            return json.loads(text)
        except UnicodeDecodeError:
            return json.loads(text.decode("cp1252"))
    # A number of thousands of digits is a ValueError, thousands of brackets are a RecursionError.
    except (ValueError, RecursionError) as error:
        hint = foreign_text(text)
        raise ValueError(
            f"The annotation file {name} is not valid JSON: {error}.{f' {hint}' if hint else ''}"
        ) from error


def check_layout(content: Any, path: str | os.PathLike) -> None:
    """Requires COCO's three lists.

    Raises:
        ValueError: a list is missing; the message says what the file is instead, if that is known.
    """
    name = os.fspath(path)
    if kind := foreign_layout(content):
        raise ValueError(f"The annotation file {name} is not in COCO's object-detection layout. {kind}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f'The annotation file {name} is not in COCO\'s layout: it has no list "{key}".')

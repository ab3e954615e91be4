"""Reads the entries of `categories`."""

import collections
import os

from tf_dcnv2.data.coco.values import as_id
from tf_dcnv2.data.findings import Findings, shorten


def read_categories(entries: list, path: str | os.PathLike, findings: Findings) -> dict[int, str]:
    """Names of categories by id.

    Raises:
        ValueError: an entry has no usable id, or an id appears twice, or there is no entry. Whatever is annotated
            depends on the categories, so that nothing is left out here.
    """
    categories: dict[int, str] = {}
    for entry in entries:
        category_id = as_id(entry.get("id")) if isinstance(entry, dict) else None
        if not isinstance(category_id, int):
            raise ValueError(
                f"{os.fspath(path)}: a category needs an integer id and a name. Received: {shorten(entry)}"
            )
        if not 0 <= category_id < 2**31:
            raise ValueError(
                f"{os.fspath(path)}: a category id must be between 0 and 2^31 - 1. Received: {shorten(entry)}"
            )
        if category_id in categories:
            raise ValueError(f"{os.fspath(path)}: category id {category_id} appears twice.")
        if not isinstance(entry["id"], int):
            findings.repair("category", entry["id"], "an id that is no integer was read as one")
        categories[category_id] = _category_name(entry, category_id, findings)
    if not categories:
        raise ValueError(f"{os.fspath(path)} lists no categories.")
    for name, count in collections.Counter(categories.values()).items():
        if count > 1:
            ids = ", ".join(str(key) for key, value in categories.items() if value == name)
            findings.warn(f"{count} categories have the same name {name!r} (ids {ids}): they stay different classes")
    return categories


def _category_name(entry: dict, category_id: int, findings: Findings) -> str:
    name = entry.get("name")
    if isinstance(name, str) and name.strip():
        # Half a surrogate pair cannot be written to any file.
        return name.encode("utf-8", "replace").decode()
    if name is None or isinstance(name, str):
        findings.repair("category", category_id, "a category without a name has its id as name")
        return str(category_id)
    findings.repair("category", category_id, "a name that is no text was read as one", shorten(name))
    return str(name)

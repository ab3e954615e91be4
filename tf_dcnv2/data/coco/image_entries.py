"""Reads the entries of `images`."""

import collections
from collections.abc import Mapping
from typing import Any

from tf_dcnv2.data.coco.values import as_id, as_side, entry_name, id_number
from tf_dcnv2.data.findings import Findings, shorten


def read_images(entries: list, annotations: list, findings: Findings) -> tuple[dict[int, dict], dict[int, Any]]:
    """Returns usable images by id, and the original ids of those that had to get a number.

    Args:
        entries: `images` of the file.
        annotations: `annotations` of the file, which decide whether two images of one id can both be left out.
        findings: receives what is left out or repaired.
    """
    images: dict[int, dict] = {}
    original_ids: dict[int, Any] = {}
    ambiguous: set[int] = set()
    for position, entry in enumerate(entries):
        image, reason = _read_image(entry, findings)
        if image is not None and (known := images.get(image["id"])) is not None:
            image_id, same_file = image["id"], known["file_name"] == image["file_name"]
            image, reason = None, "another image has the same id"
            if not same_file:
                ambiguous.add(image_id)
        if image is None:
            findings.skip("image", entry_name(entry, position), reason)
            continue
        images[image["id"]] = image
        identifier = as_id(entry["id"])
        if identifier != image["id"]:
            original_ids[image["id"]] = identifier
            findings.repair("image", identifier, "an id that is no 64-bit integer got a number", str(image["id"]))
        elif not isinstance(entry["id"], int):
            findings.repair("image", entry["id"], "an id that is no integer was read as one")
    annotated = {id_number(key) for key in map(_image_id_of, annotations) if key is not None}
    for image_id in ambiguous & annotated:
        # Whose annotations are they? Teaching them on the wrong image would be worse than none.
        findings.skip("image", image_id, "another image of the same id has another file, and there are annotations")
        del images[image_id]
    _warn_of_shared_files(images, findings)
    return images, original_ids


def _read_image(entry: Any, findings: Findings) -> tuple[dict | None, str]:
    identifier = as_id(entry.get("id")) if isinstance(entry, dict) else None
    if identifier is None:
        return None, "its id is no number or text" if isinstance(entry, dict) else "not a JSON object"
    name = entry.get("file_name")
    if name is None or name == "":
        # LVIS has the address of the file, some tools other names for the name.
        name = next((entry[key] for key in ("filename", "path", "coco_url", "name") if entry.get(key)), None)
        if name is not None:
            findings.repair("image", entry["id"], "the file name was taken from another field", shorten(name))
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        return None, "it has no file_name"
    image = {"id": id_number(identifier), "file_name": str(name)}
    sides = {side: as_side(entry.get(side)) for side in ("height", "width")}
    if None not in sides.values():
        image |= sides
    if any(side in entry and sides[side] is None for side in sides):
        findings.repair("image", entry["id"], "an unusable size was replaced by the file's")
    return image, ""


def _warn_of_shared_files(images: Mapping[int, dict], findings: Findings) -> None:
    counts = collections.Counter(image["file_name"] for image in images.values())
    shared = [name for name, count in counts.items() if count > 1]
    if shared:
        findings.warn(
            f"{len(shared)} files belong to several images, such as {shorten(shared[0])}: each of these images has "
            "only its own annotations, and what the others annotate counts as background"
        )


def _image_id_of(annotation: Any) -> int | str | None:
    return as_id(annotation.get("image_id")) if isinstance(annotation, dict) else None

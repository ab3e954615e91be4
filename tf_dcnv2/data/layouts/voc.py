"""Pascal VOC's layout: an XML file for each image, as LabelImg, CVAT and Roboflow write it too."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from tf_dcnv2.data.coco.values import as_number, as_side
from tf_dcnv2.data.findings import ItemFindings, shorten
from tf_dcnv2.data.images.files import UnreadableImage
from tf_dcnv2.data.images.lookup import ImageLookup
from tf_dcnv2.data.layouts.contents import Contents

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(annotations: str, lookup: ImageLookup) -> Contents:
    """Reads the XML files of a folder, or those that a list in `ImageSets` names.

    The first pixel of VOC has the number 1, and `xmax` is the last pixel of the object. Where any box of the data set
    begins at 0, its tool counted from 0, and the corners are taken as they are. Difficult objects become crowd regions,
    which neither training nor evaluation counts. Categories are numbered from 1 in the order of their names.

    Args:
        annotations: the folder, or a list such as `VOC2007/ImageSets/Main/train.txt`, whose folder of XML files is
            `VOC2007/Annotations`.
        lookup: finds the images.

    Raises:
        FileNotFoundError: there is no such folder or list, or no XML file.
        ValueError: the list is in no VOC folder.
    """
    contents = Contents()
    boxes: list[tuple[dict, list[float]]] = []
    for path in _xml_files(annotations):
        found = contents.findings.about("file", str(path))
        try:
            root = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
            found.skip(f"it is not valid XML: {error}")
            continue
        if root.tag != "annotation":
            found.skip(f"it is no annotation of Pascal VOC: its root is <{root.tag}>")
            continue
        size = {side: as_side(root.findtext(f"size/{side}")) for side in ("height", "width")}
        known = {side: value for side, value in size.items() if value is not None}
        image_id = contents.add_image(_image_name(root, path, lookup, found), **(known if len(known) == 2 else {}))
        boxes.extend(_read_objects(root, path.name, image_id, contents))
    counts_from_one = not any(min(corners[:2]) < 1 for _, corners in boxes)
    if boxes and not counts_from_one:
        contents.findings.warn("boxes begin at pixel 0: they were read as corners that count from 0, unlike VOC's own")
    for annotation, (x1, y1, x2, y2) in boxes:
        x1, y1 = x1 - counts_from_one, y1 - counts_from_one
        contents.annotations.append({**annotation, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    names = sorted({annotation["category_id"] for annotation, _ in boxes})
    contents.categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    numbers = {name: number for number, name in enumerate(names, start=1)}
    for annotation in contents.annotations:
        annotation["category_id"] = numbers[annotation["category_id"]]
    return contents


def _xml_files(annotations: str) -> Sequence[Path]:
    path = Path(annotations)
    if path.is_dir():
        files = sorted(path.rglob("*.xml"))
        if not files:
            raise FileNotFoundError(f"There is no XML file in {annotations}.")
        return files
    if not path.is_file():
        raise FileNotFoundError(f"The annotations do not exist: {annotations}")
    root = next((parent.parent for parent in path.parents if parent.name == "ImageSets"), None)
    if root is None:
        raise ValueError(
            f"{annotations} is taken for a list of Pascal VOC, but it is in no folder ImageSets. Name the folder of "
            "the XML files, or for another layout the folder of its labels."
        )
    stems = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [root / "Annotations" / f"{stem}.xml" for stem in dict.fromkeys(stems)]


def _image_name(root: ElementTree.Element, path: Path, lookup: ImageLookup, found: ItemFindings) -> str:
    """The name of the image file; where that which the XML gives does not exist, of the image beside it in name."""
    name = (root.findtext("filename") or "").strip()
    for candidate in (name, path.stem):
        try:
            lookup.find(candidate)
        except UnreadableImage:
            continue
        if candidate != name:
            found.repair("the image was found by the name of the XML file", shorten(name))
        return candidate
    return name or path.stem


def _read_objects(
    root: ElementTree.Element, file: str, image_id: int, contents: Contents
) -> Iterator[tuple[dict, list[float]]]:
    """The annotations of one image, named by their category so far, and their corners."""
    image = contents.images[-1]["file_name"]
    for number, item in enumerate(root.iterfind("object"), start=1):
        found = contents.findings.about("annotation", f"{file} object {number}", image)
        name = (item.findtext("name") or "").strip()
        corners = [as_number(item.findtext(f"bndbox/{side}")) for side in _SIDES]
        if not name:
            found.skip("it has no name")
        elif None in corners:
            found.skip("it has no bndbox of four numbers")
        else:
            difficult = as_number(item.findtext("difficult")) == 1
            if difficult:
                found.repair("an object that is marked as difficult is to be ignored, like a crowd")
            annotation = {"id": found.item_id, "image_id": image_id, "category_id": name, "iscrowd": int(difficult)}
            yield annotation, [corner for corner in corners if corner is not None]

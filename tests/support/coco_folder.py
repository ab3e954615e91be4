"""Small COCO data sets, written on demand."""

import json

import numpy as np
from PIL import Image

CATEGORIES = ({"id": 3, "name": "disc"}, {"id": 900, "name": "bar"})
# Options of `load_records` that leave images of 48 x 64 pixels as they are.
SMALL = {"short_side": 48, "max_side": 64, "size_multiple": 16}


class CocoFolder:
    """A COCO data set under construction: an image folder and the contents of an annotation file."""

    def __init__(self, root):
        self.images_dir = root / "images"
        self.images_dir.mkdir()
        self.annotations_file = root / "instances.json"
        self.content = {"images": [], "annotations": [], "categories": list(CATEGORIES)}

    def add_image(self, image_id, height=48, width=64, name=None, pixels=None, save=True):
        """Adds an image, black unless `pixels` are given."""
        name = name or f"{image_id}.jpg"
        if save:
            pixels = np.zeros((height, width, 3), np.uint8) if pixels is None else pixels
            Image.fromarray(pixels).save(self.images_dir / name, **({"quality": 95} if name.endswith("jpg") else {}))
        self.content["images"].append({"id": image_id, "file_name": name, "height": height, "width": width})
        return self.images_dir / name

    def add_box(self, image_id, bbox, category_id=3, **fields):
        """Adds an annotation with a box `[x, y, width, height]`."""
        number = len(self.content["annotations"]) + 1
        annotation = {"id": number, "image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": 0}
        self.content["annotations"].append(annotation | fields)

    def save(self):
        """Writes the annotation file and returns `convert_coco`'s first two arguments."""
        self.annotations_file.write_text(json.dumps(self.content))
        return self.images_dir, self.annotations_file


def rectangle(height, width, box, value=255):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[box[0] : box[2], box[1] : box[3]] = value
    return pixels


def bright_box(image):
    """`[y1, x1, y2, x2]` of the bright part of an image."""
    bright = np.asarray(image).mean(axis=-1) > 127
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]

"""Makes `synthetic_*.npz`, small descriptions of the images that `make_synthetic_coco` draws; see README.md.

python -m tests.golden.make_synthetic_vectors OUTPUT_DIRECTORY      # from the repository's root
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tf_dcnv2.data import make_synthetic_coco

LOOKS = {"plain": {}, "coloured": {"deformation": 0.4, "color_cue": 0.7}}


def portrait(folder: Path, look: str) -> dict[str, np.ndarray]:
    """Draws a data set into `folder` and returns its boxes, with images and categories, and means of 8 x 8 pixels."""
    paths = make_synthetic_coco(folder, num_images=16, image_size=(96, 128), seed=3, **LOOKS[look])
    content = json.loads(Path(paths.annotations_file).read_text())
    boxes = [[item["image_id"], item["category_id"], *item["bbox"], item["area"]] for item in content["annotations"]]
    images = [np.asarray(Image.open(Path(paths.images_dir) / image["file_name"])) for image in content["images"]]
    blocks = np.reshape(images, (len(images), 12, 8, 16, 8, 3))
    return {"boxes": np.float32(boxes), "pixels": np.uint8(np.round(blocks.mean(axis=(2, 4))))}


def main(directory: str) -> None:
    """Writes a file for each look."""
    for look in LOOKS:
        with tempfile.TemporaryDirectory() as folder:
            np.savez_compressed(Path(directory) / f"synthetic_{look}.npz", **portrait(Path(folder), look))


if __name__ == "__main__":
    main(sys.argv[1])

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dcnv2._core.masks import uncompressed_rle
from tf_dcnv2.data.coco import mask_png
from tf_dcnv2.data.coco.mask_png import encode_mask


@pytest.mark.parametrize("large_from", [0, 1 << 20], ids=["sparse", "as Model Garden"])
def test_both_encoders_keep_every_pixel(monkeypatch, large_from):
    monkeypatch.setattr(mask_png, "_LARGE_IMAGE_PX", large_from)
    rng = np.random.default_rng(0)
    for height, width in [(1, 1), (7, 9), (300, 517), (600, 40)]:
        full = rng.random((height, width)) < 0.4
        part = np.zeros_like(full)
        part[height // 3 : height // 2 + 1, width // 2 :] = True
        for mask in (full, part, np.zeros_like(full), np.ones_like(full)):
            png = encode_mask(uncompressed_rle(mask))
            image = Image.open(io.BytesIO(png))
            image.verify()
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), mask)
            np.testing.assert_array_equal(tf.io.decode_png(png, channels=1)[..., 0], mask)


@pytest.mark.slow
def test_many_polygons_on_a_large_image_stay_within_a_gigabyte(tmp_path):
    Image.new("RGB", (6000, 4000), (90, 90, 90)).save(tmp_path / "large.jpg")
    rng = np.random.default_rng(0)
    annotations = []
    for number in range(300):
        x, y = float(rng.integers(0, 5400)), float(rng.integers(0, 3500))
        polygon = [x, y, x + 500, y, x + 500, y + 400, x, y + 400]
        annotations.append(
            {"id": number, "image_id": 1, "category_id": 1, "bbox": [x, y, 500, 400], "segmentation": [polygon]}
        )
    content = {
        "images": [{"id": 1, "file_name": "large.jpg"}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    code = (
        "from pathlib import Path\n"
        "from tf_dcnv2.data import convert_coco\n"
        f"report = convert_coco({str(tmp_path)!r}, {str(tmp_path / 'a.json')!r}, {str(tmp_path / 'set')!r})\n"
        "assert report.boxes == 300, report\n"
        # getrusage would tell the peak of the process that started this one, where that is larger.
        "status = dict(line.split(':') for line in Path('/proc/self/status').read_text().splitlines())\n"
        "print(int(status['VmHWM'].split()[0]) // 1024)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 1500  # of which TensorFlow takes half

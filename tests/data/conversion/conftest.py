import numpy as np
import pytest


@pytest.fixture
def many_images(coco):
    """Twelve images, of which one is damaged and one has a box outside."""
    for image_id in range(1, 13):
        coco.add_image(image_id, pixels=np.full((48, 64, 3), 20 * image_id, np.uint8))
        coco.add_box(image_id, [image_id, 4, 20, 16], segmentation=[[image_id, 4, 20, 4, 20, 20]])
    coco.add_box(5, [100, 100, 10, 10])
    (coco.images_dir / "8.jpg").write_bytes(b"no image")
    return coco

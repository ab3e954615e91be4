import pytest

from tf_dcnv2.data import convert_coco, make_synthetic_coco

TINY = {
    "backbone.depths": [1, 1, 1, 1],
    "backbone.widths": [4, 4, 8, 8],
    "backbone.stem_width": 8,
    "neck.channels": 16,
    "rpn.channels": 16,
    "box_head.pool_branch_units": 16,
    "box_head.units": 32,
    "box_head.samples": 16,
    "mimic.rois_per_image": 2,
}


@pytest.fixture(scope="session")
def synthetic_records(tmp_path_factory) -> str:
    """Prefix of the records of eight small synthetic images."""
    folder = tmp_path_factory.mktemp("synthetic")
    images, annotations = make_synthetic_coco(folder, num_images=8, image_size=(96, 128), seed=0)
    convert_coco(images, annotations, folder / "records")
    return str(folder / "records")

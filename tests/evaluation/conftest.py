"""Ground truth."""

from pathlib import Path

import pytest

from tf_dcnv2.data import convert_coco, make_synthetic_coco


@pytest.fixture(scope="package")
def shapes(tmp_path_factory) -> tuple[str, Path]:
    """Prefix of the records of synthetic images, with crowds and empty ones among them, and their annotation file."""
    folder = tmp_path_factory.mktemp("shapes")
    paths = make_synthetic_coco(folder, num_images=20, image_size=(96, 128))
    convert_coco(*paths, folder / "records")
    return str(folder / "records"), paths.annotations_file

import pytest

from tf_dcnv2.data import convert_coco, make_synthetic_coco


@pytest.fixture(scope="session")
def synthetic_records(tmp_path_factory) -> str:
    """Prefix of the records of eight small synthetic images."""
    folder = tmp_path_factory.mktemp("synthetic")
    images, annotations = make_synthetic_coco(folder, num_images=8, image_size=(96, 128), seed=0)
    convert_coco(images, annotations, folder / "records")
    return str(folder / "records")

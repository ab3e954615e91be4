import pytest

from tests.support.coco_folder import CocoFolder


@pytest.fixture
def coco(tmp_path):
    return CocoFolder(tmp_path)


@pytest.fixture
def prefix(tmp_path):
    return str(tmp_path / "records" / "set")

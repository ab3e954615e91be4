"""How a case is converted."""

from collections.abc import Callable

import pytest

from tests.support.hard_cases import CASES, images_of
from tf_dcnv2.data import ConversionReport, convert_coco


@pytest.fixture
def convert(tmp_path) -> Callable[..., ConversionReport]:
    """Converts a case by its name to the records `tmp_path / "set"`."""

    def run(case: str, **options) -> ConversionReport:
        return convert_coco(images_of(case), CASES / case / "a.json", tmp_path / "set", **options)

    return run

"""Where the cases lie, and how one is converted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tf_dcnv2.data import ConversionReport, convert_coco

CASES = Path(__file__).parent / "cases"


def images_of(case: str) -> Path:
    """The image folder of a case."""
    own = CASES / case / "img"
    return own if own.is_dir() else CASES / "img"


@pytest.fixture
def convert(tmp_path) -> Callable[..., ConversionReport]:
    """Converts a case by its name to the records `tmp_path / "set"`."""

    def run(case: str, **options) -> ConversionReport:
        return convert_coco(images_of(case), CASES / case / "a.json", tmp_path / "set", **options)

    return run

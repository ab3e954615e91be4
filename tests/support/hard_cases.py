"""Where the annotation files lie that other tools wrote in their own way."""

from pathlib import Path

CASES = Path(__file__).parents[1] / "wild" / "cases"


def images_of(case: str) -> Path:
    """The image folder of a case."""
    own = CASES / case / "img"
    return own if own.is_dir() else CASES / "img"

"""Fonts that have the characters of a text, so that class names in any script are readable on pictures."""

import functools
import os
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFont

# Names of fonts that have many scripts, in lower case; others are tried after them.
_LIKELY = ("notosanscjk", "notosans", "wqy", "droidsansfallback", "ipa", "unifont", "arialuni", "hei", "gothic", "ming")
_UNASSIGNED = "\U0010ffff"


def font_for(text: str, size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont | None":
    """A `PIL.ImageFont.FreeTypeFont` of `size` pixels that has every character of `text`.

    Pillow's own font comes first, then matplotlib's DejaVu Sans (Cyrillic, Greek, Arabic and more), then whatever is
    installed on the machine.

    Returns:
        The font, or None if there is none.
    """
    characters = "".join(sorted({char for char in text if unicodedata.category(char) not in ("Cf", "Mn", "Zs")}))
    source = _source_for(characters)
    return None if source is None else _load(source, size)


@functools.lru_cache(maxsize=4096)
def _source_for(characters: str) -> str | None:
    """The file of the first font with all characters, an empty string for Pillow's own; None if there is none."""
    return next((source for source in _sources() if _has_all(source, characters)), None)


@functools.lru_cache(maxsize=1)
def _sources() -> tuple[str, ...]:
    sources = [""]
    try:
        import matplotlib
        from matplotlib import font_manager
    except ModuleNotFoundError:
        return tuple(sources)
    sources.append(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))

    def unlikely(path: str) -> tuple[bool, str]:
        name = os.path.basename(path).lower().replace("-", "").replace("_", "").replace(" ", "")
        return not any(likely in name for likely in _LIKELY), path

    return (*sources, *sorted(font_manager.findSystemFonts(), key=unlikely))


@functools.lru_cache(maxsize=64)
def _load(source: str, size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    from PIL import ImageFont

    return ImageFont.truetype(source, size) if source else ImageFont.load_default(size=size)


def _has_all(source: str, characters: str) -> bool:
    try:
        font = _load(source, 20)
        # Every character that a font lacks looks like one that no font has.
        missing = _looks(font, _UNASSIGNED)
        return all(_looks(font, character) != missing for character in characters)
    except (OSError, AttributeError):  # no scalable font
        return False


def _looks(font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", character: str) -> tuple:
    mask = font.getmask(character)
    return mask.size, bytes(mask)

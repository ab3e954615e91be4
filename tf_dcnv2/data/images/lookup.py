"""Finds the image files of an annotation file whose tool wrote their names in its own way.

Windows tools write backslashes, Label Studio percent signs and URLs, CVAT and others the folders of their own server.
"""

import collections
import contextlib
import os
import re
import threading
import unicodedata
import urllib.parse
from collections.abc import Iterator
from typing import Any, NamedTuple

from tf_dcnv2.data.findings import shorten
from tf_dcnv2.data.images.files import UnreadableImage

# Label Studio puts eight hexadecimal digits in front of an uploaded file's name.
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_WITHOUT_EXTENSION = "/"  # marks keys of the index; no file name holds it
_SAME_EXTENSION = {".jpeg": ".jpg", ".jpe": ".jpg", ".tiff": ".tif"}


class FoundImage(NamedTuple):
    """The path of an image file, and how its name had to be read to find it; empty if it is exactly as written."""

    path: str
    how: str


class ImageLookup:
    """The files of one folder, by the names that annotation files give them.

    A name is taken as it is if there is such a file. Otherwise it may have more folders at the beginning than the file
    has below `folder`, but no different ones; case, Unicode form and the spelling of the extension may differ. A name
    that fits several files is not guessed.

    Args:
        folder: what the names are relative to.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = os.fspath(folder)
        self._lock = threading.Lock()
        self._paths: dict[str, list[tuple[str, ...]]] | None = None

    def find(self, name: Any) -> FoundImage:
        """The file of a name.

        Raises:
            UnreadableImage: there is none, or several fit; the message names it.
        """
        name = str(name)
        exact = os.path.join(self._folder, name)
        try:
            if os.path.isfile(exact):
                return FoundImage(exact, "")
        except (ValueError, OSError):  # a null byte, half a surrogate pair, too long
            pass
        for plain, how in _readings(name):
            matches = self._matches(plain)
            if len(matches) > 1:
                raise UnreadableImage(f"{shorten(name)} fits {len(matches)} files, {matches[0]} and {matches[1]}")
            if matches:
                return FoundImage(os.path.join(self._folder, matches[0]), how or _difference(plain, matches[0]))
        if not os.path.splitext(name)[1]:
            matches = self._matches(name, _WITHOUT_EXTENSION)
            if len(matches) == 1:
                return FoundImage(os.path.join(self._folder, matches[0]), "the file name has no extension")
        raise UnreadableImage(f"{_printable(exact)} does not exist{self._hint(name)}")

    def image_names(self) -> list[str]:
        """The paths, relative to the folder, of all files whose names end as those of images do, in order."""
        from PIL import Image

        known = Image.registered_extensions()
        found = {"/".join(path) for paths in self._index().values() for path in paths}
        return sorted(path for path in found if os.path.splitext(path)[1].lower() in known)

    def _hint(self, name: str) -> str:
        """Finds folders further below that hold a file of that name."""
        below = self._index().get(_key(_normal(os.path.basename(name))), [])
        return f" (is it {os.path.join(self._folder, *below[0])}? Then name that folder)" if len(below) == 1 else ""

    def _matches(self, name: str, mark: str = "") -> list[str]:
        """Relative paths that are the end of the name, or all of it."""
        parts = tuple(part for part in _normal(name).split("/") if part not in ("", ".", ".."))
        if not parts:
            return []
        found = []
        for path in self._index().get(_key(parts[-1]) + mark, []):
            relative = tuple(_normal(part) for part in path[:-1])
            if relative == parts[len(parts) - len(path) : -1]:
                found.append("/".join(path))
        same_spelling = [path for path in found if os.path.basename(path) == os.path.basename(name)]
        return same_spelling if len(same_spelling) == 1 else found

    def _index(self) -> dict[str, list[tuple[str, ...]]]:
        """File name, in a form that ignores how it is spelled -> the paths of all such files."""
        with self._lock:
            if self._paths is None:
                self._paths = self._walk()
        return self._paths

    def _walk(self) -> dict[str, list[tuple[str, ...]]]:
        paths = collections.defaultdict(list)
        for folder, _, files in os.walk(self._folder):
            relative = os.path.relpath(folder, self._folder)
            parents = () if relative == os.curdir else tuple(relative.split(os.sep))
            for file in files:
                plain = _normal(file)
                paths[_key(plain)].append((*parents, file))
                paths[os.path.splitext(plain)[0] + _WITHOUT_EXTENSION].append((*parents, file))
        return dict(paths)


def _readings(name: str) -> Iterator[tuple[str, str]]:
    """Ways to read a name, the most faithful first, each with its description."""
    yield name, ""
    plain = name.strip()
    if plain != name:
        yield plain, "spaces around the file name were left out"
    if "\\" in plain:
        plain = re.sub(r"^[A-Za-z]:", "", plain).replace("\\", "/")
        yield plain, "backslashes in the file name were read as folders"
    if re.match(r"^[a-z][a-z0-9+.-]*://", plain) or "?" in plain:
        with contextlib.suppress(ValueError):  # not everything that looks like a URL is one
            plain = _of_url(plain)
            yield plain, "the file name was taken out of a URL"
    if "%" in plain:
        plain = urllib.parse.unquote(plain)
        yield plain, "%-signs in the file name were decoded"
    folder, base = os.path.split(plain)
    if _UPLOAD_PREFIX.match(base):
        without = f"{folder}/{base[9:]}" if folder else base[9:]
        yield without, "the file name was found without Label Studio's prefix"


def _of_url(name: str) -> str:
    url = urllib.parse.urlsplit(name)
    queries = urllib.parse.parse_qs(url.query)
    return queries["d"][0] if "d" in queries else url.path


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _key(base: str) -> str:
    stem, extension = os.path.splitext(base)
    return stem + _SAME_EXTENSION.get(extension, extension)


def _difference(name: str, path: str) -> str:
    """Describes how a file's path differs from the name that found it."""
    if _normal(name).strip("./") != _normal(path):
        return "the file was found without the folders in its name"
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", path):
        return "the file name has another Unicode form"
    return "the file name has another case or extension"


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")

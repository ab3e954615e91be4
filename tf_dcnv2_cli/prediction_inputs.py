"""What `tf-dcnv2 predict` looks at: image files, folders, patterns and videos, and where their pictures go."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tf_dcnv2_cli.console import log

_IMAGES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
_IMAGES |= {".jp2", ".avif", ".ppm", ".pgm", ".pnm", ".tga", ".dds"}


class Source(NamedTuple):
    """A file to look at.

    Attributes:
        path: the file.
        picture: where its picture goes; of a video, the folder of its frames' pictures.
        is_video: whether it has frames.
    """

    path: Path
    picture: Path
    is_video: bool


class Look(NamedTuple):
    """One image to detect objects on.

    Attributes:
        fields: what the results say of it: the file's name, of a frame also its number and time.
        image: `(H, W, 3)` uint8 RGB.
        picture: where its picture goes.
    """

    fields: dict[str, Any]
    image: Any
    picture: Path


def find_sources(paths: Sequence[str], output: Path) -> list[Source]:
    """Lists the files that paths and patterns name, with a picture of its own for each, also where names are equal.

    Raises:
        FileNotFoundError: there is nothing of a name, or a folder holds neither image nor video.
    """
    files = [file for path in paths for match in _matches(path) for file in _files(match)]
    taken: set[str] = set()
    sources = []
    for file in files:
        name, number = file.stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name.casefold())
        is_video = _is_video(file)
        sources.append(Source(file, output / (name if is_video else f"{name}.jpg"), is_video))
    return sources


def read_source(source: Source, *, upright: bool, every: int) -> Iterator[Look]:
    """Reads an image, or a video frame by frame.

    Raises:
        ValueError: it cannot be read; of a video, after the frames that could.
    """
    from tf_dcnv2.data import read_image
    from tf_dcnv2.data.images.videos import read_frames

    fields = {"file_name": str(source.path)}
    if not source.is_video:
        yield Look(fields, read_image(source.path, upright=upright), source.picture)
        return
    for frame in read_frames(source.path, every):
        at = {"frame": frame.number, "time_s": round(frame.time_s, 3)}
        yield Look(fields | at, frame.image, source.picture / f"{frame.number:06d}.jpg")


def _matches(path: str) -> list[Path]:
    """The path itself, or what it matches if it is a pattern and nothing has that name."""
    if Path(path).exists() or not glob.has_magic(path):
        return [Path(path)]
    matches = [Path(match) for match in sorted(glob.glob(path, recursive=True))]
    if not matches:
        raise FileNotFoundError(f"{path} matches no file.")
    return matches


def _is_video(path: Path) -> bool:
    from tf_dcnv2.data.images.videos import VIDEO_EXTENSIONS

    return path.suffix.lower() in VIDEO_EXTENSIONS


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist.")
        yield path
        return
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if not entry.is_dir()]
    known = [file for file in files if file.suffix.lower() in _IMAGES or _is_video(file)]
    if not known:
        raise FileNotFoundError(f"{path} holds no image ({', '.join(sorted(_IMAGES))}) and no video.")
    if others := sorted(set(files) - set(known)):
        log(
            "note", f"{len(others)} files in {path} do not look like images, such as {others[0].name}: name them to try"
        )
    if folders := [entry.name for entry in entries if entry.is_dir()]:
        log("note", f"{len(folders)} folders in {path} are not searched, such as {folders[0]}: name them to do so")
    yield from known

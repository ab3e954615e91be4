"""Reads the frames of video files, with OpenCV."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tf_dcnv2.data.images.files import UnreadableImage

VIDEO_EXTENSIONS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ogv"})
"""Extensions of the files that are taken for videos, in lower case."""


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
        number: its place in the video, from 0.
        time_s: when it is shown, in seconds from the beginning.
        image: `(H, W, 3)` uint8 RGB.
    """

    number: int
    time_s: float
    image: np.ndarray


def require_video_reader() -> None:
    """Checks that videos can be read.

    Raises:
        ImportError: OpenCV is not installed; the message says how to install it.
    """
    try:
        import cv2  # noqa: F401
    except ImportError:
        raise ImportError("Videos are read with OpenCV: pip install opencv-python-headless") from None


def read_frames(path: str | os.PathLike, every: int = 1) -> Iterator[Frame]:
    """Yields the frames of a video file, turned upright as the file says.

    Args:
        path: the file.
        every: of so many frames only the first.

    Raises:
        UnreadableImage: the file is missing or no video, or it ends before its last frame, after those that could be
            read have been yielded.
        ImportError: OpenCV is not installed.
        ValueError: `every` is not positive.

    Example:
        >>> for frame in read_frames("street.mp4", every=10):
        ...     found = detector.detect(frame.image)
    """
    require_video_reader()
    import cv2

    if every < 1:
        raise ValueError(f"every must be at least 1. Received: every={every}")
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise UnreadableImage(f"{name} does not exist" if not os.path.exists(name) else f"{name} is no regular file")
    capture = cv2.VideoCapture(name)
    try:
        if not capture.isOpened():
            raise UnreadableImage(f"{name} cannot be decoded: it is no video of a known kind, or damaged")
        rate, expected = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        index = 0
        while capture.grab():
            if index % every == 0:
                decoded, image = capture.retrieve()
                if not decoded:
                    break
                yield Frame(index, index / rate if rate > 0 else 0.0, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            index += 1
        # Containers without an index do not know their length.
        if index == 0 or index < 0.9 * expected < 1e9:
            raise UnreadableImage(f"{name} ends after {index} of {max(expected, 0):.0f} frames: it is damaged")
    finally:
        capture.release()

import numpy as np
import pytest

from tf_dcnv2.data.images.files import UnreadableImage
from tf_dcnv2.data.images.videos import read_frames

cv2 = pytest.importorskip("cv2")


@pytest.fixture
def clip(tmp_path):
    """Ten frames, ever brighter in red."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 4, (64, 48))
    for number in range(10):
        writer.write(np.full([48, 64, 3], (0, 0, 20 * number), np.uint8))
    writer.release()
    return path


def test_frames_are_rgb_with_number_and_time(clip):
    frames = list(read_frames(clip))
    assert [frame.number for frame in frames] == list(range(10))
    assert [frame.time_s for frame in frames] == [number / 4 for number in range(10)]
    for frame in frames:
        assert frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8
        np.testing.assert_allclose(frame.image[20, 30], [20 * frame.number, 0, 0], atol=8)


def test_only_every_nth_frame_is_read(clip):
    assert [frame.number for frame in read_frames(clip, every=4)] == [0, 4, 8]
    with pytest.raises(ValueError, match="at least 1. Received: every=0"):
        next(read_frames(clip, every=0))


def test_a_truncated_video_gives_the_frames_that_it_has_and_then_an_error(clip):
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 2])
    frames = []
    with pytest.raises(UnreadableImage, match=r"clip\.avi (ends after|cannot be decoded)"):
        for frame in read_frames(clip):
            frames.append(frame)
    assert len(frames) < 10


def test_files_that_are_no_videos_are_named(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    for path, reason in (
        (tmp_path / "text.mp4", "cannot be decoded"),
        (tmp_path / "none.mp4", "does not exist"),
        (tmp_path, "is no regular file"),
    ):
        with pytest.raises(UnreadableImage, match=reason):
            list(read_frames(path))

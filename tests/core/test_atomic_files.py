import os

import pytest

from tf_dcnv2._core import atomic_files
from tf_dcnv2._core.atomic_files import atomic_file, leftover_of, write_atomically


@pytest.mark.parametrize("letter", ["a", "ä", "漢"])
@pytest.mark.parametrize("length", [241, 242, 255])
def test_every_name_that_is_legal_can_be_written(tmp_path, letter, length):
    size = len(letter.encode())
    path = tmp_path / ("x" * (length % size) + letter * (length // size))
    write_atomically(path, "new")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "new"


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("name", ["log.csv", "a.b.tmp", "ä" * 20, "x" * 220])
def test_what_a_kill_leaves_tells_which_file_was_written(tmp_path, monkeypatch, name):
    def killed(*arguments):
        raise Killed

    # Neither renamed nor tidied up.
    for call in ("replace", "unlink"):
        monkeypatch.setattr(os, call, killed)
    with pytest.raises(Killed), atomic_file(tmp_path / name):
        pass
    assert [leftover_of(path.name) for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "name", ["log.csv", ".tmp", ".editor.tmp", ".log.csv.tmp", ".train-00000-of-00001.tfrecord.0.4242.tmp"]
)
def test_temporary_files_of_other_programs_are_no_leftovers(name):
    assert leftover_of(name) is None


def test_temporary_names_have_room_for_what_is_appended():
    for name in ("x" * 255, "漢" * 85, "a" + "漢" * 84):
        prefix = atomic_files.hidden_prefix(name)
        assert prefix.startswith("." + name[0]) and prefix.endswith(".")
        assert 220 <= len(prefix.encode()) <= 255 - 32

import contextlib
import errno
import fcntl
import subprocess
import sys

import pytest

from tf_dcnv2._core import folder_lock
from tf_dcnv2._core.folder_lock import exclusive_lock

HOLDER = """
import runpy, sys
from pathlib import Path
exclusive_lock = runpy.run_path(sys.argv[1])["exclusive_lock"]
with exclusive_lock(Path(sys.argv[2]), "is being trained"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_keeps_other_processes_out_until_its_process_is_killed(tmp_path):
    command = [sys.executable, "-c", HOLDER, folder_lock.__file__, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        message = f"{tmp_path} is being trained by another process. Wait for its end"
        with pytest.raises(RuntimeError, match=message), exclusive_lock(tmp_path / ".lock", "is being trained"):
            pass
        holder.kill()
    with exclusive_lock(tmp_path / ".lock", "is being trained"):
        pass


def test_a_lock_ends_with_its_block_whatever_happens_there(tmp_path):
    for _ in "12":
        with contextlib.suppress(KeyboardInterrupt), exclusive_lock(tmp_path / ".lock", "is being trained"):
            raise KeyboardInterrupt


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_no_hindrance(tmp_path, monkeypatch, number):
    def unsupported(*arguments):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with exclusive_lock(tmp_path / ".lock", "is being trained"):
        pass


def test_other_errors_of_the_file_system_are_reported(tmp_path, monkeypatch):
    def broken(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"), exclusive_lock(tmp_path / ".lock", "is being trained"):
        pass


def test_the_lock_of_a_file_that_was_deleted_meanwhile_excludes_nobody_and_does_not_count(tmp_path, monkeypatch):
    flock = fcntl.flock

    def after_its_deletion(file, operation):
        (tmp_path / ".lock").unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", after_its_deletion)
    with (
        pytest.raises(RuntimeError, match="by another process"),
        exclusive_lock(tmp_path / ".lock", "is being trained"),
    ):
        pass

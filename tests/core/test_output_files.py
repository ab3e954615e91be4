import os

import pytest

from tf_dcnv2._core.output_files import ensure_writable, refuse_foreign, refuse_overwriting


def test_an_input_is_recognised_under_every_name(tmp_path, monkeypatch):
    original = tmp_path / "a.json"
    original.write_text("x")
    (tmp_path / "link.json").symlink_to(original)
    os.link(original, tmp_path / "hard.json")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in (original, "a.json", "./a.json", "sub/../a.json", "link.json", "hard.json"):
        with pytest.raises(FileExistsError, match=r"overwrite the input .*a\.json"):
            refuse_overwriting([name], [original])
    refuse_overwriting(["b.json", "sub/a.json"], [original])


def test_an_input_that_does_not_exist_is_recognised_by_its_name(tmp_path):
    with pytest.raises(FileExistsError):
        refuse_overwriting([tmp_path / "sub" / ".." / "new"], [tmp_path / "new"])


def test_only_an_earlier_output_may_be_replaced(tmp_path):
    (tmp_path / "x").write_text("")
    refuse_foreign(tmp_path / "x", True, "ours")
    refuse_foreign(tmp_path / "y", False, "ours")
    with pytest.raises(FileExistsError, match="x exists and is not ours"):
        refuse_foreign(tmp_path / "x", False, "ours")


def test_a_file_that_cannot_be_written_is_named_beforehand(tmp_path):
    ensure_writable(tmp_path / "new" / "x.json")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(IsADirectoryError, match="is a folder"):
        ensure_writable(tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file.x\.json cannot be written"):
        ensure_writable(tmp_path / "file" / "x.json")

"""Checkpoints are read without PyTorch, and a file that would run code, or is damaged, is refused."""

import contextlib
import pickle
import zipfile

import numpy as np
import pytest

from tests.support import torch_files
from tf_dcnv2.models.weights.unpickling import UnreadableCheckpoint, read_pickled

CONTENT = {
    "meta": {"epoch": 12, "cfg": "a = 1", "classes": ("cat", "dog")},
    "state_dict": {
        "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "conv.bias": np.array([1.5, -2.5], np.float16),
        "count": np.array(7, np.int64),
        "empty": np.zeros([0, 3], np.float32),
    },
}


def assert_is_content(content):
    assert content["meta"] == {"epoch": 12, "cfg": "a = 1", "classes": ["cat", "dog"]}
    assert content["state_dict"].keys() == CONTENT["state_dict"].keys()
    for name, value in CONTENT["state_dict"].items():
        np.testing.assert_array_equal(content["state_dict"][name], value)
        assert content["state_dict"][name].dtype == value.dtype


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "without zip"])
def test_both_formats_of_pytorch(tmp_path, legacy):
    torch_files.save(CONTENT, tmp_path / "file.pth", legacy=legacy)
    assert_is_content(read_pickled(tmp_path / "file.pth"))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_arrays(tmp_path, protocol):
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(CONTENT, protocol))
    assert_is_content(read_pickled(tmp_path / "file.pkl"))
    fortran = {"model": np.asfortranarray(CONTENT["state_dict"]["conv.weight"]), "scalar": np.float32(0.5)}
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(fortran, protocol))
    content = read_pickled(tmp_path / "file.pkl")
    np.testing.assert_array_equal(content["model"], fortran["model"])
    assert content["scalar"] == 0.5


def test_what_a_runner_saves_besides_the_network_is_left_out(tmp_path):
    history = torch_files.Call("mmengine.logging.history_buffer", "HistoryBuffer")
    mean = torch_files.Call("__builtin__", "getattr", history, "mean")
    torch_files.save({"hub": {"loss": history, "mean": mean}, **CONTENT}, tmp_path / "epoch_12.pth")
    content = read_pickled(tmp_path / "epoch_12.pth")
    assert content.pop("hub") == {"loss": None, "mean": None}
    assert_is_content(content)


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("os", "system", ("touch {marker}",)),
        ("posix", "system", ("touch {marker}",)),
        ("builtins", "eval", ("open('{marker}', 'w')",)),
        ("builtins", "__import__", ("os",)),
        ("subprocess", "Popen", (["touch", "{marker}"],)),
        ("numpy", "load", ("{marker}",)),
        ("numpy.testing._private.utils", "runstring", ("open('{marker}', 'w')", {})),
        ("torch", "load", ("{marker}",)),
        ("torch.hub", "load", ("{marker}",)),
        ("tf_dcnv2.models.weights.unpickling", "read_pickled", ("{marker}",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("kind", ["zip", "without zip", "pickle"])
def test_files_that_would_run_code_are_refused_and_run_none(tmp_path, module, name, arguments, kind):
    marker = tmp_path / "marker"
    filled = [str(marker) if argument == "{marker}" else argument for argument in arguments]
    filled = [part.format(marker=marker) if isinstance(part, str) else part for part in filled]
    content = {"state_dict": CONTENT["state_dict"], "attack": torch_files.Call(module, name, *filled)}
    path = tmp_path / "file.pth"
    if kind == "pickle":
        content["state_dict"] = {}
        torch_files.save(content, path, legacy=False)
        path.write_bytes(zipfile.ZipFile(path).read("archive/data.pkl"))
    else:
        torch_files.save(content, path, legacy=kind == "without zip")
    with pytest.raises(UnreadableCheckpoint, match=f"names {module}.{name}, which is no data"):
        read_pickled(path)
    assert not marker.exists()


def test_attributes_of_objects_cannot_be_reached(tmp_path):
    """getattr, which mmengine's files call, gives nothing that could be called for an effect."""
    marker = tmp_path / "marker"
    getattr_of_module = torch_files.Call("builtins", "getattr", torch_files.Call("collections", "OrderedDict"), "clear")
    torch_files.save({"a": getattr_of_module}, tmp_path / "file.pth")
    assert read_pickled(tmp_path / "file.pth") == {"a": None}
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["zip", "without zip", "pickle"])
def test_truncated_files_are_refused(tmp_path, kind):
    path = tmp_path / "file.pth"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(CONTENT, 4))
    else:
        torch_files.save(CONTENT, path, legacy=kind == "without zip")
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableCheckpoint, match=r"file.pth is "):
            read_pickled(path)


def test_damaged_files_give_an_error_or_data_and_never_crash(tmp_path, rng):
    path = tmp_path / "file.pth"
    for legacy in (False, True):
        torch_files.save(CONTENT, path, legacy=legacy)
        whole = path.read_bytes()
        for _ in range(300):
            damaged = bytearray(whole)
            for position in rng.integers(0, len(whole), 3):
                damaged[position] = rng.integers(256)
            path.write_bytes(damaged)
            with contextlib.suppress(UnreadableCheckpoint):
                read_pickled(path)


def tensor(offset, shape, strides):
    """A tensor of ten numbers with a description of its own."""

    class Described(torch_files._Pickler):
        def _save_tensor(self, array):
            self.storages["0"] = array
            self.write(b"ctorch._utils\n_rebuild_tensor_v2\n(")
            self._save_storage("FloatStorage", "0", array.size)
            for argument in (offset, shape, strides, False, {}):
                self.save(argument)
            self.write(pickle.TUPLE + pickle.REDUCE)

    return Described


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (11,), (1,)), (5, (6,), (1,)), (-1, (2,), (1,)), (0, (2, 5), (6, 1)), (0, (2,), (-1,)), (0, (10**6,), (0,))],
    ids=str,
)
def test_tensors_beyond_their_numbers_are_refused(tmp_path, monkeypatch, offset, shape, strides):
    monkeypatch.setattr(torch_files, "_Pickler", tensor(offset, shape, strides))
    torch_files.save({"a": np.zeros(10, np.float32)}, tmp_path / "file.pth")
    with pytest.raises(UnreadableCheckpoint, match="reaches beyond its numbers"):
        read_pickled(tmp_path / "file.pth")


def test_views_of_one_storage(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_files, "_Pickler", tensor(1, (3, 2), (2, 1)))
    torch_files.save({"a": np.arange(10, dtype=np.float32)}, tmp_path / "file.pth")
    np.testing.assert_array_equal(read_pickled(tmp_path / "file.pth")["a"], [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    "content", [b"", b"no pickle at all", b"PK\x03\x04", bytes(1000), pickle.dumps(np.array([{}], object))], ids=str
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(UnreadableCheckpoint, match="file.pth"):
        read_pickled(tmp_path / "file.pth")


def test_a_file_that_is_missing_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_pickled(tmp_path / "none.pth")


@pytest.mark.parametrize(
    "case", ["mm_mask_regular/epoch_12.pth", "mm_mask_mdconv/model.pth", "d2_mask/model_final.pkl"]
)
def test_files_as_the_projects_write_them(shared_dir, case):
    content = read_pickled(shared_dir / "golden" / "detectors" / case)
    weights = content.get("state_dict") or content["model"]
    assert len(weights) > 300
    assert all(isinstance(value, np.ndarray) and np.isfinite(value).all() for value in weights.values())

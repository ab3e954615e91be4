"""What the loader says when the op library is not there or does not fit."""

import json
import warnings

import pytest
import tensorflow as tf

from tf_dcnv2.ops import native


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Points the loader at a library that does not exist yet, and forgets what it loaded for the test's duration."""
    path = tmp_path / "_dcnv2_ops.so"
    monkeypatch.setattr(native, "_LIBRARY", path)
    monkeypatch.setattr(native, "_BUILD_INFO", path.with_name("_build_info.json"))
    native._load_once.cache_clear()
    yield path
    native._load_once.cache_clear()


def test_a_missing_library_is_reported_with_what_to_do(library):
    assert not native.is_available()
    with pytest.raises(native.NativeOpsUnavailable, match=r"not built: there is no .*_dcnv2_ops\.so.*pip install"):
        native.load()


def test_a_library_for_another_tensorflow_is_refused_before_it_is_opened(library):
    library.write_bytes(b"opening this would fail otherwise")
    library.with_name("_build_info.json").write_text(json.dumps({"tensorflow": "2.19.1"}))
    with pytest.raises(native.NativeOpsUnavailable, match=rf"for TensorFlow 2\.19\.1; TensorFlow {tf.__version__} is"):
        native.load()


def test_a_library_without_build_information_is_refused(library):
    library.write_bytes(b"")
    with pytest.raises(native.NativeOpsUnavailable, match="an unknown version"):
        native.load()


def test_a_damaged_library_is_reported_like_a_missing_one(library):
    library.write_bytes(b"not a shared library")
    library.with_name("_build_info.json").write_text(json.dumps({"tensorflow": tf.__version__}))
    with pytest.raises(native.NativeOpsUnavailable, match=r"Loading .*_dcnv2_ops\.so failed"):
        native.load()


@pytest.mark.parametrize("cuda", [None, {"version": "13.0", "architectures": [90], "ptx": 90}])
@pytest.mark.parametrize("gpus", [[], ["GPU"]])
def test_a_gpu_without_cuda_kernels_is_reported_once_with_what_to_do(library, monkeypatch, cuda, gpus):
    library.write_bytes(b"")
    library.with_name("_build_info.json").write_text(json.dumps({"tensorflow": tf.__version__, "cuda": cuda}))
    monkeypatch.setattr(tf, "load_op_library", lambda path: tf)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: gpus)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        native.load(), native.load()
    assert [warning.category for warning in caught] == ([RuntimeWarning] if gpus and not cuda else [])
    assert all("DCNV2_CUDA=1" in str(warning.message) for warning in caught)

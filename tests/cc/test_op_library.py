"""What the loader says when the op library is not there or does not fit."""

import json

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

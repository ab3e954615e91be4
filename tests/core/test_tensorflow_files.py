import errno

import pytest
import tensorflow as tf

from tf_dcnv2._core.tensorflow_files import errors_of_files


@pytest.mark.parametrize("position", ["", " [Op:SaveV2]"])
def test_a_file_that_tensorflow_cannot_write_is_an_error_of_that_file(position):
    message = f"/records/.parts/0.tmp; No space left on device{position}"
    with pytest.raises(OSError) as error, errors_of_files("/records/train"):
        raise tf.errors.ResourceExhaustedError(None, None, message)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, "/records/train")


def test_a_folder_that_does_not_exist_is_an_error_of_what_the_user_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train"), errors_of_files("train"):
        tf.io.TFRecordWriter(str(tmp_path / "none" / "0"))


def test_other_errors_of_tensorflow_stay_as_they_are():
    with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM"), errors_of_files("train"):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating a tensor; shape [10]")

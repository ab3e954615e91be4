"""Records of TFRecord files, with an error that names a damaged file."""

import tensorflow as tf


def read_records(paths: list[str], labels: list[str], shuffle_seed: tf.Tensor | None = None) -> tf.data.Dataset:
    """Serialised examples of the files at `paths`: file after file or, with a seed, from four random files at a time.

    Each comes with the one of `labels` that belongs to its file.
    """
    sizes = [tf.io.gfile.stat(path).length for path in paths]
    files = tf.data.Dataset.from_tensor_slices((paths, tf.constant(sizes, tf.int64), labels))

    def read(path: tf.Tensor, size: tf.Tensor, label: tf.Tensor) -> tf.data.Dataset:
        return _read_file(path, size).map(lambda record: (record, label))

    if shuffle_seed is None:
        return files.flat_map(read)
    files = files.shuffle(len(paths), seed=shuffle_seed)
    return files.interleave(read, cycle_length=4, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _read_file(path: tf.Tensor, size: tf.Tensor) -> tf.data.Dataset:
    """Records of one file. TensorFlow's own error for a damaged one does not say which file it is in.

    So the reader stops at the damage, and an end marker checks that the records add up to the file's size.
    """
    framing_bytes = 16  # per record: length, checksum of the length, checksum of the data
    end_marker = tf.constant(b"")

    def account(position: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        is_end = tf.equal(record, end_marker)
        problem = " is truncated or corrupt: only {} of its {} bytes can be read."
        message = tf.strings.join([path, tf.strings.format(problem, (position, size))])
        with tf.control_dependencies([tf.debugging.Assert(~is_end | (position == size), [message])]):
            length = tf.cast(tf.strings.length(record), tf.int64)
        return position + length + framing_bytes, record

    records = tf.data.TFRecordDataset(path).ignore_errors()
    records = records.concatenate(tf.data.Dataset.from_tensors(end_marker)).scan(tf.constant(0, tf.int64), account)
    return records.filter(lambda record: tf.not_equal(record, end_marker))

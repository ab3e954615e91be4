"""How many threads TensorFlow may use."""

import tensorflow as tf

from tf_dcnv2.benchmark.options import available_cores


def use_threads(threads: int) -> None:
    """Has TensorFlow's ops share `threads` threads, which has to be said before it runs the first one.

    Raises:
        RuntimeError: it has run one, with another number.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        running = tf.config.threading.get_intra_op_parallelism_threads() or available_cores()
        if running != threads:
            raise RuntimeError(
                f"TensorFlow runs already with {running} threads in this process, which cannot be changed. Received: "
                f"threads={threads}. Measure in a process of its own."
            ) from error

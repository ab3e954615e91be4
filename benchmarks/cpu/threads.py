"""How many threads TensorFlow may use, and that it uses no GPU."""

import tensorflow as tf

from benchmarks.cpu.options import available_cores


def use_threads(threads: int) -> None:
    """Has TensorFlow's ops share `threads` threads of the processor, which is what the contenders run on.

    It has to be said before TensorFlow runs the first one.

    Raises:
        RuntimeError: it has run one, with another number.
    """
    try:
        tf.config.set_visible_devices([], "GPU")
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        running = tf.config.threading.get_intra_op_parallelism_threads() or available_cores()
        if running != threads:
            raise RuntimeError(
                f"TensorFlow runs already with {running} threads in this process, which cannot be changed. Received: "
                f"threads={threads}. Measure in a process of its own."
            ) from error

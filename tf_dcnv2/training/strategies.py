"""On which devices and in which processes a run trains.

Whatever is chosen, a step of the optimizer sees the same batch: its images are divided among the replicas of the model,
one on each device, and the gradients of their shares are summed.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.models.replicas import from_all_replicas
from tf_dcnv2.training.options import TrainOptions


class WorkerLost(RuntimeError):
    """Another process of the run has ended, so that this one cannot go on."""


class Devices:
    """The devices of a run, and the processes that use them.

    Args:
        strategy: a MultiWorkerMirroredStrategy for several processes.

    Attributes:
        strategy: its `scope` is around everything that makes variables.
        workers: number of processes.
        worker: index of this one; that of the chief, which writes the run's files, is 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        resolver = strategy.cluster_resolver if _is_multiworker(strategy) else None
        self.workers = resolver.cluster_spec().num_tasks("worker") if resolver else 1
        self.worker = resolver.task_id if resolver else 0
        self._sum = tf.function(self._sum_over_workers, input_signature=[tf.TensorSpec([None], tf.float64)])

    def __str__(self) -> str:
        where = f" in {self.workers} processes" if self.workers > 1 else ""
        return f"{self.replicas} devices{where}, {type(self.strategy).__name__}"

    @property
    def replicas(self) -> int:
        """Among how many devices a batch is divided."""
        return self.strategy.num_replicas_in_sync

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that writes the run's files."""
        return self.worker == 0

    def sum(self, values: Sequence[float]) -> np.ndarray:
        """The sum over all processes of the numbers of each; every process has to call it, and waits for the others."""
        if self.workers == 1:
            return np.asarray(values, np.float64)
        return self._sum(tf.constant(values, tf.float64)).numpy()

    def from_chief(self, values: Sequence[float]) -> np.ndarray:
        """The numbers of the chief, in every process; like `sum`."""
        return self.sum(values if self.is_chief else [0.0] * len(values))

    def from_each(self, value: float) -> list[float]:
        """The number of each process; like `sum`."""
        return self.sum([value if index == self.worker else 0.0 for index in range(self.workers)]).tolist()

    def distribute(self, dataset: tf.data.Dataset) -> Any:
        """A dataset for `fit` of batches of this process: the share of its devices in those of the run."""
        if self.workers == 1:
            return dataset  # which `fit` divides among them
        local = self.replicas // self.workers
        return self.strategy.distribute_datasets_from_function(
            lambda context: dataset.apply(lambda batches: _divided(batches, local))
        )

    def synchronize(self, model: keras.Model) -> None:
        """Makes batch normalisation that learns from the batch see all of it, and not only the share of a device."""
        for layer in model._flatten_layers():
            if self.replicas > 1 and isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                layer.synchronized = True

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """The scope of the strategy, out of which the end of another process comes as `WorkerLost`."""
        try:
            with self.strategy.scope():
                yield
                self.sum([0.0])  # until the chief has written the last file, no process may end
        except tf.errors.OpError as error:
            if self.workers == 1 or not _tells_of_another_process(error):
                raise
            raise WorkerLost(
                "Another process of the run has ended or cannot be reached; its own output says why. Start all of them "
                "again with --resume: the run goes on from its last checkpoint."
            ) from error

    def _sum_over_workers(self, values: tf.Tensor) -> tf.Tensor:
        def of_replica() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            is_first = context.replica_id_in_sync_group % (self.replicas // self.workers) == 0
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(is_first, values, tf.zeros_like(values)))

        return self.strategy.experimental_local_results(self.strategy.run(of_replica))[0]


class SharedDetector:
    """A detector as a function of a batch, whose images the devices of a run divide among them.

    Every process calls it with the same batches, and has all detections.

    Args:
        detector: made in the scope of the strategy.
        devices: of the run.
    """

    def __init__(self, detector: keras.Model, devices: Devices):
        self._detector = detector
        self._strategy = devices.strategy
        self._replicas = devices.replicas
        signature = {"images": tf.TensorSpec([None, None, None, 3]), "image_sizes": tf.TensorSpec([None, 2])}
        self._detect = tf.function(self._detect_together, input_signature=[signature])

    @property
    def has_mask_head(self) -> bool:
        """As of the detector."""
        return self._detector.has_mask_head

    @property
    def whole_pixel_masks(self) -> bool:
        """As of the detector."""
        return self._detector.whole_pixel_masks

    def __call__(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The detections of the detector, see `FasterRCNN`."""
        return self._detect({name: inputs[name] for name in ("images", "image_sizes")})

    def _detect_together(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        count = tf.shape(inputs["images"])[0]
        share = -(-count // self._replicas)
        # The last image comes again where there are not enough for all.
        rows = tf.minimum(tf.range(share * self._replicas), count - 1)

        def of_replica() -> dict[str, tf.Tensor]:
            context = tf.distribute.get_replica_context()
            own = tf.reshape(rows, [self._replicas, share])[context.replica_id_in_sync_group]
            found = self._detector({name: tf.gather(value, own) for name, value in inputs.items()})
            return {name: from_all_replicas(value) for name, value in found.items()}

        together = {
            name: self._strategy.experimental_local_results(value)[0]
            for name, value in self._strategy.run(of_replica).items()
        }
        return {name: tf.reshape(value, [-1, *value.shape[2:]])[:count] for name, value in together.items()}


def make_devices(options: TrainOptions) -> Devices:
    """The devices that `options.strategy` asks for.

    Raises:
        ValueError: the batch cannot be divided among them, or TF_CONFIG does not describe the processes.
    """
    devices = Devices(_STRATEGIES[options.strategy]())
    if devices.replicas > 1 and options.precision == "mixed_float16":
        raise ValueError(
            "precision='mixed_float16' trains on one device, since each would scale its loss by itself. Take "
            f"'mixed_bfloat16' on several. Received: strategy={options.strategy!r} with {devices.replicas} devices"
        )
    share, rest = divmod(options.batch_size, devices.replicas)
    if rest or share < options.accumulate:
        parts = f" in accumulate={options.accumulate} parts" if options.accumulate > 1 else ""
        raise ValueError(
            f"A batch has to be a multiple of the {devices.replicas} devices, with images for each{parts}. Received: "
            f"batch_size={options.batch_size}"
        )
    return devices


def _mirrored() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multiworker() -> tf.distribute.Strategy:
    require_workers(os.environ.get("TF_CONFIG", ""))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ValueError(
            "strategy='multiworker' has to come before anything that TensorFlow computes: call `train` at the start of "
            f"the program. TensorFlow says: {error}"
        ) from error


def require_workers(text: str) -> None:
    """Checks that TF_CONFIG describes processes of which all are workers, and which of them this one is.

    Raises:
        ValueError: it does not.
    """
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        is_described = set(config["cluster"]) == {"worker"} and task["type"] == "worker"
        is_described = is_described and 0 <= int(task["index"]) < len(workers)
    except (ValueError, KeyError, TypeError):
        is_described = False
    if not is_described:
        raise ValueError(
            "strategy='multiworker' needs the environment variable TF_CONFIG in every process, such as "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}. '
            f"Received: {text or 'none'}"
        )


_STRATEGIES = {"one": tf.distribute.get_strategy, "mirrored": _mirrored, "multiworker": _multiworker}


def _is_multiworker(strategy: tf.distribute.Strategy) -> bool:
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _divided(batches: tf.data.Dataset, parts: int) -> tf.data.Dataset:
    """Each batch as that many smaller ones."""
    if parts == 1:
        return batches
    size = tf.nest.flatten(batches.element_spec)[0].shape[0]
    return batches.rebatch(size // parts).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _tells_of_another_process(error: tf.errors.OpError) -> bool:
    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    )
    return isinstance(error, lost) or "/job:worker" in error.message

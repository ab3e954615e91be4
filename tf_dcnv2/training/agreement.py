"""What the processes of a run have to agree on, so that all of them do the same after every step."""

import signal
from typing import Any

import keras

from tf_dcnv2.training.backups import RunState
from tf_dcnv2.training.budget import wall_clock
from tf_dcnv2.training.run_folder import RunFolder
from tf_dcnv2.training.stop_requests import StopRequests
from tf_dcnv2.training.strategies import Devices

_SIGNALS = (signal.SIGINT.name, signal.SIGTERM.name)


class Agreement(keras.callbacks.Callback):
    """Brings the chief's time, and a request to stop that any process got, to all processes when a step ends.

    A learning rate that follows the clock, the end of a run, a checkpoint: each of these is decided in every process,
    by the same numbers. One process alone decides by its own.

    Args:
        devices: of the run.
        own: the requests that this process gets.

    Attributes:
        stop: the requests that all processes know of.
    """

    def __init__(self, devices: Devices, own: StopRequests):
        super().__init__()
        self._devices = devices
        self._own = own
        self._started = wall_clock()
        self._seconds = 0.0
        self.stop = own if devices.workers == 1 else StopRequests()

    def clock(self) -> float:
        """Seconds since some time: those of the chief when the last step ended."""
        return wall_clock() if self._devices.workers == 1 else self._seconds

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Asks the other processes."""
        if self._devices.workers == 1:
            return
        seconds = wall_clock() - self._started if self._devices.is_chief else 0.0
        self._seconds, *received = self._devices.sum([seconds, *(self._own.received == name for name in _SIGNALS)])
        self.stop.received = next((name for name, count in zip(_SIGNALS, received, strict=True) if count), None)


def require_same_state(run: RunFolder, state: RunState, devices: Devices) -> None:
    """Checks that all processes go on from the same checkpoint, before the chief writes anything.

    Raises:
        ValueError: they see different folders.
    """
    steps = devices.from_each(state.steps)
    if len(set(steps)) > 1:
        raise ValueError(
            f"The processes of a run have to see the same folder. Process by process, {run} holds a run after "
            f"{', '.join(f'{count:.0f}' for count in steps)} steps."
        )

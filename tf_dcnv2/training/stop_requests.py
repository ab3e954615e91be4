"""Signals that ask a process to stop, which a training run answers when its step is over."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class TrainingStopped(KeyboardInterrupt):
    """A signal has ended a run before its budget was used up; what it had reached is saved.

    Attributes:
        steps: optimizer steps made in all.
    """

    def __init__(self, signal_name: str, steps: int):
        super().__init__(f"{signal_name} has ended the run after {steps} steps, which are saved.")
        self.steps = steps


class StopRequests:
    """The signal that asked the process to stop, if any has.

    Attributes:
        received: its name, such as "SIGTERM"; None before.
    """

    received: str | None = None


@contextlib.contextmanager
def stop_requests(on_first: Callable[[str], None]) -> Iterator[StopRequests]:
    """Within the block SIGINT and SIGTERM only ask to stop; a second one does what it did before.

    Outside of the main thread, where Python handles no signals, nothing changes.

    Args:
        on_first: called with the name of the first signal, in a thread of its own.
    """
    requests = StopRequests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    announcements: list[threading.Thread] = []

    def ask(number: int, frame: FrameType | None) -> None:
        requests.received = signal.Signals(number).name
        for known, handler in previous.items():
            signal.signal(known, handler)
        # The signal may have interrupted a print, and Python refuses to print within it; another thread waits for it.
        announcement = threading.Thread(target=on_first, args=(requests.received,))
        announcement.start()
        announcements.append(announcement)

    for number in previous:
        signal.signal(number, ask)
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for announcement in announcements:
            announcement.join()

"""Work in a process of its own, which it may end: after an illegal access to memory CUDA is lost to the whole process.

The process is forked from this one, so that what was imported here need not be imported again, which takes PyTorch
seconds. CUDA must not have been used here: it does not survive the fork.
"""

import math
import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Send = Callable[[Any], None]

_CONTEXT = multiprocessing.get_context("fork")
# For a process that is done, or was killed, to disappear.
_END_S = 5.0


class _Failure(str):
    """The last that is sent by work that raised."""


def run_apart(
    work: Callable[[Send], None], receive: Callable[[Any], None], *, silence_s: float, limit_s: float = math.inf
) -> str:
    """Calls `work(send)` in a process of its own, and `receive` with each thing that it sends, at once.

    Args:
        work: anything; what it sends must pickle.
        receive: called in this process.
        silence_s: seconds after which a process that sends nothing is killed.
        limit_s: seconds after which the process is killed in any case.

    Returns:
        What went wrong, in words: an exception, a signal, the limit. "" where nothing did.
    """
    # What is buffered here would be printed by both.
    sys.stdout.flush()
    sys.stderr.flush()
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(work, sender), daemon=True)
    process.start()
    sender.close()
    deadline = time.monotonic() + limit_s
    try:
        while True:
            left = max(0.0, deadline - time.monotonic())
            if not receiver.poll(min(silence_s, left)):
                failure = (
                    f"ended after {limit_s:.3g} s" if left <= silence_s else f"ended after {silence_s:.3g} s of silence"
                )
                break
            received = receiver.recv()
            if isinstance(received, _Failure):
                failure = str(received)
                break
            receive(received)
    except (EOFError, OSError):
        process.join(_END_S)
        failure = _how_it_ended(process.exitcode)
    finally:
        # It may hang in its own end, too.
        process.kill()
        process.join(_END_S)
        receiver.close()
    return failure


def _run(work: Callable[[Send], None], sender: Connection) -> None:
    try:
        work(sender.send)
    except Exception as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines()
        sender.send(_Failure(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__))


def _how_it_ended(status: int | None) -> str:
    if status is None:
        return "closed its connection and did not end"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"ended with status {status}" if status else ""

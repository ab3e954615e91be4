"""A signal asks a run to stop, whatever it interrupts."""

import io
import signal

from tf_dcnv2.training.stop_requests import stop_requests


class InterruptedFile(io.RawIOBase):
    """A file whose first write is interrupted by SIGTERM."""

    def __init__(self):
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        if not self.written:
            signal.raise_signal(signal.SIGTERM)
        self.written += bytes(data)
        return len(data)


def test_a_signal_that_interrupts_a_print_is_announced_after_it():
    file = InterruptedFile()
    output = io.TextIOWrapper(io.BufferedWriter(file))
    with stop_requests(lambda name: print("stopping", name, file=output, flush=True)) as requests:
        print("epoch 1", file=output, flush=True)
    assert requests.received == "SIGTERM"
    assert file.written == b"epoch 1\nstopping SIGTERM\n"


def test_what_signals_did_before_they_do_after_the_first_one_and_after_the_block():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_requests(lambda name: None) as requests:
        assert signal.getsignal(signal.SIGTERM) is not before[0]
        signal.raise_signal(signal.SIGINT)
        assert requests.received == "SIGINT"
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

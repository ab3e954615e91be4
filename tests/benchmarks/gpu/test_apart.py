import os
import time

import pytest

from benchmarks.gpu.apart import run_apart


@pytest.fixture
def apart():
    """Runs work in a process of its own: what it sent, and what went wrong."""

    def run(work, silence_s=30.0, limit_s=30.0):
        received = []
        return received, run_apart(work, received.append, silence_s=silence_s, limit_s=limit_s)

    return run


def test_what_is_sent_is_received_and_nothing_is_wrong(apart):
    assert apart(lambda send: [send({"a": 1}), send("b")]) == ([{"a": 1}, "b"], "")


def test_it_is_another_process(apart):
    received, _ = apart(lambda send: send(os.getpid()))
    assert received != [os.getpid()]


def test_a_process_that_aborts_keeps_what_it_sent_and_is_explained(apart):
    def work(send):
        send("before")
        os.abort()

    assert apart(work) == (["before"], "ended by SIGABRT")


def test_an_exception_is_told_by_its_first_line(apart, capfd):
    def work(send):
        raise RuntimeError("CUDA error: an illegal memory access\nCompile with ...")

    assert apart(work) == ([], "RuntimeError: CUDA error: an illegal memory access")
    assert "Traceback" in capfd.readouterr().err


def test_a_status_is_told(apart):
    assert apart(lambda send: os._exit(3)) == ([], "ended with status 3")


def test_a_process_that_hangs_is_ended_in_time(apart):
    def work(send):
        send("before")
        time.sleep(60)

    start = time.monotonic()
    assert apart(work, silence_s=0.5) == (["before"], "ended after 0.5 s of silence")
    assert time.monotonic() - start < 10


def test_a_process_that_keeps_sending_may_take_longer_up_to_its_limit(apart):
    def work(send):
        for count in range(8):
            time.sleep(0.25)
            send(count)

    assert apart(work, silence_s=1.0) == (list(range(8)), "")
    received, failure = apart(work, silence_s=5.0, limit_s=1.0)
    assert received == list(range(len(received))) and len(received) < 8
    assert failure == "ended after 1 s"


def test_what_is_sent_is_received_while_the_work_goes_on():
    arrived = []
    run_apart(lambda send: [send(0), time.sleep(1)], lambda sent: arrived.append(time.monotonic()), silence_s=30.0)
    assert time.monotonic() - arrived[0] > 0.5

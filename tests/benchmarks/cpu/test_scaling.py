import pytest

from benchmarks.cases import FLOAT32, ConvCase
from benchmarks.cpu import scaling
from benchmarks.cpu.conv_functions import COMPOSITE, NATIVE
from benchmarks.cpu.memory import RETURN_FREED_MEMORY
from benchmarks.cpu.worker import Worker

pytestmark = pytest.mark.usefixtures("native_ops")


@pytest.mark.parametrize(
    ("most", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])]
)
def test_threads_are_doubled_up_to_the_most_there_are(most, counts):
    assert scaling.thread_counts(most) == counts


@pytest.fixture(scope="module")
def worker():
    with Worker(1, RETURN_FREED_MEMORY) as worker:
        yield worker


def test_a_process_tells_that_the_op_keeps_no_columns(worker):
    case = ConvCase(64, 60, 100)
    native = worker.workspace_bytes("forward", NATIVE, case)
    composite = worker.workspace_bytes("forward", COMPOSITE, case)
    if native is None:
        pytest.skip("this system does not tell how much memory is used")
    assert native < case.column_bytes(FLOAT32) / 2
    assert composite > case.column_bytes(FLOAT32)


def test_a_process_tells_what_went_wrong_and_when_it_dies_it_is_not_waited_for(worker):
    case = ConvCase(4, 5, 7)
    with pytest.raises(RuntimeError, match="nobody on 4 ch, 5 x 7, threads=1: KeyError"):
        worker.seconds("forward", "nobody", case)
    assert 0 < worker.seconds("forward", NATIVE, case) < 60
    worker._process.kill()
    with pytest.raises(RuntimeError, match="The process that measures with threads=1 ended with status -9"):
        worker.seconds("forward", NATIVE, case)

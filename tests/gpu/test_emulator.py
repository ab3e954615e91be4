"""The emulated device: does what a real one does, and finds what a real one would be silent about."""

import ctypes
from ctypes import c_uint64, c_void_p

import gpu_library
import numpy as np
import pytest
from kernels import store, widen

ERROR = 719


@pytest.fixture(scope="module")
def library():
    library = ctypes.CDLL(str(gpu_library.build_self_test()))
    library.describe.restype = ctypes.c_char_p
    return library


@pytest.fixture(autouse=True)
def device(library):
    library.emulated_device(9, 0, 4, c_uint64(0))


def address(array):
    return c_void_p(array.ctypes.data)


@pytest.mark.parametrize("math, storage", [(0, "float16"), (1, "bfloat16")])
def test_matrices_of_16_bits_are_loaded_and_multiplied(library, rng, math, storage):
    a, b = (store(rng.standard_normal(shape), storage) for shape in [(16, 16), (16, 8)])
    c = np.empty((16, 8), np.float32)
    assert library.multiply(math, address(a), address(b), address(c)) == 0
    np.testing.assert_allclose(c, widen(a, storage) @ widen(b, storage), atol=1e-6)


def test_products_of_tf32_ignore_the_last_bits(library, rng):
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in [(16, 8), (8, 8)])
    c = np.empty((16, 8), np.float32)
    assert library.multiply(2, address(a), address(b), address(c)) == 0
    truncated = [(array.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(float) for array in (a, b)]
    np.testing.assert_allclose(c, truncated[0] @ truncated[1], atol=1e-6)


def test_products_that_turing_lacks_are_errors_there(library):
    library.emulated_device(7, 5, 4, c_uint64(0))
    zeros = np.zeros(512, np.uint8)
    assert library.multiply(0, address(zeros), address(zeros), address(np.empty((16, 8), np.float32))) == 0
    for math in (1, 2):
        assert library.multiply(math, address(zeros), address(zeros), address(np.empty((16, 8), np.float32))) == ERROR
        assert b"before compute capability 8.0" in library.describe(ERROR)


def test_shuffles_move_numbers_between_lanes(library, rng):
    given, received = rng.standard_normal(32).astype(np.float32), np.empty((4, 32), np.float32)
    assert library.shuffle(address(given), address(received)) == 0
    np.testing.assert_allclose(received[0], given.sum(dtype=np.float64), atol=1e-5)
    np.testing.assert_array_equal(received[1], np.append(given[1:], given[31]))
    np.testing.assert_array_equal(received[2], np.append(given[0], given[:31]))
    np.testing.assert_array_equal(received[3], np.repeat(given[3::8], 8))


@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
def test_asynchronous_copies_arrive(library, rng, capability):
    library.emulated_device(*capability, 4, c_uint64(0))
    given, received = rng.standard_normal((3, 128, 4)).astype(np.float32), np.empty((3, 128, 4), np.float32)
    assert library.copy(address(given), address(received), 3, 100, True, True) == 0
    expected = given.copy()
    expected[:, 100:] = 0
    np.testing.assert_array_equal(received, expected[:, ::-1])


@pytest.mark.parametrize("wait, synchronize", [(False, True), (True, False)], ids=["wait", "barrier"])
def test_a_missing_wait_or_barrier_gives_nan(library, rng, wait, synchronize):
    given, received = rng.standard_normal((3, 128, 4)).astype(np.float32), np.empty((3, 128, 4), np.float32)
    assert library.copy(address(given), address(received), 3, 128, wait, synchronize) == 0
    assert np.isnan(received).any()


def test_atomic_additions_add(library):
    sums = np.zeros(4, np.float32)
    assert library.add(address(sums), 5) == 0
    np.testing.assert_array_equal(sums, 5 * 128 * np.array([2, 2, 3, 4]))


@pytest.mark.parametrize(
    "fault, message",
    [
        (1, "waits at __syncthreads for ever, for "),
        (2, "thread (32, 0, 0): waits at __syncwarp for ever, for "),
        (3, "takes part in another collective"),
        (4, "which is not aligned to 16 bytes"),
        (5, "an asynchronous copy to shared memory at the misaligned address"),
        (6, "some thread wrote byte 128 of 128 bytes of shared memory"),
        (7, "index 7 is outside of its array"),
        (8, "thread (37, 0, 0): trap"),
        (9, "assertion failed: memory == nullptr"),
        (10, "thread (37, 0, 0): waits at a barrier in memory for ever, for "),
        (11, "thread (37, 0, 0): waits at a barrier of some threads for ever, for "),
        (12, "block 1 of a cluster of 1"),
    ],
)
def test_faults_are_errors_with_block_and_thread(library, fault, message):
    memory = np.full(64, 7, np.float32)
    assert library.fault(0, address(memory)) == 0
    assert library.fault(fault, address(memory)) == ERROR
    assert message in library.describe(ERROR).decode()


@pytest.mark.parametrize("capability, most", [((7, 5), 65536), ((8, 0), 166912), ((8, 6), 101376), ((9, 0), 232448)])
def test_shared_memory_has_the_limits_of_the_device(library, capability, most):
    library.emulated_device(*capability, 4, c_uint64(0))
    memory = np.zeros(64, np.float32)
    assert library.use_shared_memory(49152, 49152, address(memory)) == 0
    assert library.use_shared_memory(-1, 49153, address(memory)) != 0
    assert library.use_shared_memory(most, most, address(memory)) == 0
    assert library.use_shared_memory(most + 1, 0, address(memory)) != 0

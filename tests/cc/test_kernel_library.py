"""Builds and runs the C++ tests of cc/lib, which need neither Python nor TensorFlow, once per instruction set."""

import aarch64
import kernel_tests
import pytest
from doctest_headers import DoctestUnavailable


@pytest.fixture(scope="module")
def program(unavailable):
    try:
        return kernel_tests.build()
    except DoctestUnavailable as error:
        unavailable(str(error))


@pytest.mark.parametrize("instruction_set", kernel_tests.instruction_sets())
def test_kernels_of_every_instruction_set_pass_their_own_tests(program, instruction_set):
    # Where the processor lacks the set, the best one it has is tested again.
    passed, output = kernel_tests.run_on(instruction_set, [program], {})
    assert passed, output


@pytest.mark.slow
def test_kernels_pass_their_own_tests_on_64_bit_arm():
    try:
        command = aarch64.build()
    except aarch64.EmulationUnavailable as error:
        pytest.skip(str(error))
    passed, output = kernel_tests.run(command)
    assert passed, output

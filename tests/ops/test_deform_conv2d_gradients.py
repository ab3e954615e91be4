"""Gradients of deformable convolution against central differences."""

import numpy as np
import pytest

CONFIGURATIONS = [
    {"shape": (1, 4, 5, 4), "filters": 2, "groups": 2, "deformable_groups": 2, "kernel_size": (2, 3)},
    {"shape": (2, 5, 4, 2), "filters": 2, "strides": 2, "dilation_rate": 2, "padding": ((2, 1), (2, 2))},
    {"shape": (1, 4, 4, 2), "filters": 3, "modulated": False, "kernel_size": (2, 2)},
]


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_gradients_are_the_derivatives(
    configuration, implementation, make_conv_problem, value_and_gradients, numeric_gradient, rng
):
    problem = make_conv_problem(**configuration)
    operator = problem.operator(implementation)
    dy = rng.standard_normal(operator(*problem.tensors).shape)

    _, gradients = value_and_gradients(operator, problem.tensors, dy)

    for position, gradient in enumerate(gradients):

        def of_one(array, position=position):
            return operator(*problem.tensors[:position], array, *problem.tensors[position + 1 :])

        expected = numeric_gradient(of_one, problem.tensors[position], dy)
        # Random positions are at least 1e-4 pixels from the kinks at integers, differences are of 1e-6.
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)

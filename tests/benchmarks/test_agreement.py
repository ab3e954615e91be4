import numpy as np
import pytest

from benchmarks.agreement import Disagreement, check_agreement, check_losses, largest_error


def test_the_largest_difference_is_returned_as_a_fraction_of_the_largest_value():
    outputs = [np.array([10.0, -20.1]), np.array([1.0, 2.0])]
    expected = [np.array([10.0, -20.0]), np.array([1.0, 2.0])]
    assert check_agreement("ours", "theirs", "forward", outputs, expected, 0.01) == pytest.approx(0.005)
    assert largest_error(outputs, expected) == pytest.approx(0.005)


def test_a_difference_of_the_tolerance_is_allowed_and_a_larger_one_is_not():
    expected = [np.array([-8.0, 1.0])]
    assert check_agreement("ours", "theirs", "forward", [np.array([-8.0, 2.0])], expected, 0.125) == 0.125
    with pytest.raises(Disagreement, match="allowed are 0.12"):
        check_agreement("ours", "theirs", "forward", [np.array([-8.0, 2.001])], expected, 0.125)


def test_a_disagreement_names_the_contender_the_reference_the_work_and_the_error():
    with pytest.raises(Disagreement) as caught:
        check_agreement("ours", "theirs", "forward, 8 ch", [np.array([1.0, 2.5])], [np.array([1.0, 2.0])], 1e-4)
    assert str(caught.value) == (
        "ours disagrees with theirs on forward, 8 ch, output 1 of 1: the largest difference is 0.25 of the largest "
        "value, allowed are 0.0001."
    )


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_a_number_disagrees(wrong):
    with pytest.raises(Disagreement, match="output 2 of 2"):
        check_agreement("ours", "theirs", "it", [np.ones(2), np.array([1.0, wrong])], [np.ones(2)] * 2, 1e-4)


def test_another_shape_disagrees():
    with pytest.raises(Disagreement, match=r"its shape is \(1, 3\) instead of \(3,\)"):
        check_agreement("ours", "theirs", "it", [np.ones((1, 3))], [np.ones(3)], 1e-4)


def test_a_missing_output_is_no_agreement():
    with pytest.raises(ValueError):
        check_agreement("ours", "theirs", "it", [np.ones(3)], [np.ones(3)] * 2, 1e-4)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_loss_that_is_no_number_fails_by_its_name(wrong):
    check_losses("a_preset", {"loss": 1.0, "class_loss": 0.0})
    with pytest.raises(Disagreement, match=f"a_preset does not compute: class_loss is {wrong}"):
        check_losses("a_preset", {"loss": 1.0, "class_loss": wrong})

import pytest

from benchmarks.cases import BFLOAT16, FLOAT32, TF32, ConvCase


def test_work_and_memory_of_a_case():
    case = ConvCase(8, 3, 5)
    assert (case.operations, case.column_bytes(FLOAT32)) == (2 * 9 * 8 * 8 * 15, 9 * 8 * 15 * 4)
    assert case.column_bytes(BFLOAT16) == case.column_bytes(FLOAT32) / 2
    assert case.column_bytes(TF32) == case.column_bytes(FLOAT32)


def test_a_batch_multiplies_the_work_and_groups_divide_it():
    one = ConvCase(8, 3, 5)
    assert ConvCase(8, 3, 5, 4).operations == 4 * one.operations
    assert ConvCase(8, 3, 5, groups=2).operations == one.operations / 2
    assert ConvCase(8, 3, 5, 4, deformable_groups=2).coordinates == 8 * one.coordinates


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (ConvCase(8, 3, 5), "8 ch, 3 x 5"),
        (ConvCase(8, 3, 5, 2), "2 x 3 x 5 x 8"),
        (ConvCase(8, 3, 5, groups=4, deformable_groups=2), "8 ch, 3 x 5, 4 groups, 2 deformable groups"),
        (ConvCase(8, 3, 5, 2, groups=8), "2 x 3 x 5 x 8, depthwise"),
    ],
)
def test_a_case_is_named_by_its_size_and_its_groups(case, name):
    assert str(case) == name

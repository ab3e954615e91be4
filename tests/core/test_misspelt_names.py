import pytest

from tf_dcnv2._core.misspelt_names import did_you_mean

KNOWN = ["conv_1", "conv_2", "conv_3", "conv_4", "pool"]


@pytest.mark.parametrize(
    ("names", "question"),
    [
        (["pol"], " Did you mean 'pool'?"),
        (["conv_10"], " Did you mean 'conv_1', 'conv_4' or 'conv_3'?"),
        (["pol", "nothing", "poool"], " Did you mean 'pool'?"),
        (["nothing"], ""),
        ([3], ""),
        ([], ""),
    ],
)
def test_the_nearest_names_are_suggested_once_each(names, question):
    assert did_you_mean(names, KNOWN) == question


def test_similarity_does_not_count_the_prefix_that_all_names_share():
    assert did_you_mean(["x"], ["sigma"], "a_long_section.") == ""
    assert did_you_mean(["sigam"], iter(["sigma"]), "a_long_section.") == " Did you mean 'a_long_section.sigma'?"

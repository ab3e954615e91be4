import unicodedata

from tf_dcnv2.data.records.category_names import describe_difference, match_categories


def test_names_decide_and_not_ids():
    assert match_categories({1: "a", 2: "b"}, {1: "b", 2: "a"}) == {1: 2, 2: 1}
    assert match_categories({1: "a", 2: "b"}, {5: "b"}) == {2: 5}
    assert match_categories({1: "raccoon"}, {1: "RBC"}) == {}


def test_spelling_matters_only_where_nothing_else_fits():
    decomposed = unicodedata.normalize("NFD", "Möwe")
    assert match_categories({1: "Traffic light", 2: decomposed}, {7: "traffic_light", 8: "möwe "}) == {1: 7, 2: 8}
    assert match_categories({1: "Cell", 2: "cell"}, {3: "cell", 4: "Cell"}) == {1: 4, 2: 3}
    assert match_categories({1: "cell", 2: "CELL"}, {3: "Cell", 4: "cell"}) == {1: 4, 2: 3}


def test_names_that_only_spelling_tells_apart_are_not_guessed():
    assert match_categories({5: "CAT", 6: "dog"}, {1: "Cat", 2: "cat", 3: "Dog"}) == {6: 3}
    assert match_categories({1: "Cat", 2: "cat"}, {5: "CAT"}) == {}


def test_categories_of_the_same_name_keep_their_ids():
    same = {0: "cells", 1: "RBC", 4: "cells"}
    assert match_categories(same, same) == {0: 0, 1: 1, 4: 4}


def test_without_names_ids_are_matched():
    assert match_categories({1: "1", 2: "2"}, {1: "a", 3: "b"}) == {1: 1}


def test_a_difference_names_both_sides_but_not_without_end():
    text = describe_difference({1: "raccoon"}, {i: f"class {i}" for i in range(20)}, [1])
    assert text == f"'raccoon' (known: {', '.join(repr(f'class {i}') for i in range(8))} and 12 more)"

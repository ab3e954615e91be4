"""The tool that plants faults."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch):
    """Looking for plugins takes most of the time of the short runs of tests below."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture(scope="module")
def mutate():
    specification = importlib.util.spec_from_file_location("mutate", ROOT / "tools" / "mutate.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


SOURCE = '''"""Of ä text."""
def f(x: int | None, y=2):
    log("ü", x)
    if x is None and not y:
        raise ValueError(f"{x + 1}")
    return g(x, key=y) if x <= 3 else -x * 0.5
'''


def test_every_kind_of_fault_is_planted_and_what_only_people_read_is_not(mutate):
    replaced = {(mutant.original, mutant.replacement) for mutant in mutate.mutants("m.py", SOURCE)}
    assert replaced == {
        ("2", "(2 + 1)"),
        ('log("ü", x)', "pass"),
        ("x is None and not y", "(x is None or not y)"),
        ("x is None", "(x is not None)"),
        ("not y", "(y)"),
        ("g(x, key=y) if x <= 3 else -x * 0.5", "(-x * 0.5 if x <= 3 else g(x, key=y))"),
        ("g(x, key=y)", "(g(x))"),
        ("x <= 3", "(x < 3)"),
        ("3", "(3 + 1)"),
        ("-x", "(x)"),
        ("-x * 0.5", "(-x / 0.5)"),
        ("0.5", "(0.5 * 2)"),
    }


def test_a_planted_fault_is_valid_python_and_changes_its_place_alone(mutate):
    for mutant in mutate.mutants("m.py", SOURCE):
        planted = mutant.planted_in(SOURCE)
        compile(planted, "m.py", "exec")
        assert planted == SOURCE[: mutant.start] + mutant.replacement + SOURCE[mutant.end :]
        assert SOURCE.count("\n", 0, mutant.start) + 1 == mutant.line


def test_the_sample_is_reproducible_and_of_the_packages_that_are_asked_for(mutate, capsys):
    for _ in range(2):
        assert mutate.main(["--list", "--count", "5", "--seed", "3", "--only", "models/rpn"]) == 0
    first, second = capsys.readouterr().out.split("5 of ")[1:]
    assert first == second
    assert first.count("tf_dcnv2/models/rpn/") == 5


def test_tests_beside_a_module_are_those_of_its_folder_that_mention_it_first(mutate):
    found = mutate.tests_beside(ROOT / "tf_dcnv2" / "models" / "suppression.py")
    assert found[0].name == "test_targets.py"
    assert sorted(found) == sorted((ROOT / "tests" / "models").rglob("test_*.py"))


def test_faults_that_tests_notice_are_told_from_those_they_do_not(mutate, tmp_path, monkeypatch):
    package, tests = tmp_path / "tf_dcnv2" / "ops", tmp_path / "tests" / "ops"
    package.mkdir(parents=True), tests.mkdir(parents=True)
    (package / "sums.py").write_text("def total(a, b):\n    return a + b\n\n\ndef unseen(a):\n    return a + 1\n")
    (tests / "test_sums.py").write_text(
        "import sys\nsys.path.insert(0, 'tf_dcnv2/ops')\nimport sums\n\n"
        "def test_total():\n    assert sums.total(1, 2) == 3\n"
    )
    monkeypatch.setattr(mutate, "NEEDED", ("tf_dcnv2", "tests"))
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    workshop = mutate.Workshop(tmp_path / "copy", timeout=120)
    lives = {str(mutant): workshop.survives(mutant) for mutant in mutate.candidates([])}
    assert [text.split(": ")[1] for text, survived in lives.items() if survived] == [
        "a + 1  ->  (a - 1)",
        "1  ->  (1 + 1)",
    ]
    assert len(lives) == 3


def test_a_test_that_fails_without_a_fault_notices_none(mutate, tmp_path, monkeypatch):
    package, tests = tmp_path / "tf_dcnv2" / "ops", tmp_path / "tests" / "ops"
    package.mkdir(parents=True), tests.mkdir(parents=True)
    (package / "sums.py").write_text("def total(a, b):\n    return a + b\n")
    (tests / "test_sums.py").write_text("def test_total():\n    assert open('a file that the copy lacks')\n")
    monkeypatch.setattr(mutate, "NEEDED", ("tf_dcnv2", "tests"))
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    workshop = mutate.Workshop(tmp_path / "copy", timeout=120)
    with pytest.raises(RuntimeError, match=r"test_sums\.py::test_total fails in a copy"):
        workshop.survives(mutate.candidates([])[0])

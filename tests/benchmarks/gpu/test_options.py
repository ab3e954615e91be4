import pytest

from benchmarks.gpu.options import parse


def test_the_results_go_where_the_environment_says_or_the_user(monkeypatch):
    monkeypatch.delenv("OUT", raising=False)
    assert parse([]).output == "runs/benchmark-gpu"
    monkeypatch.setenv("OUT", "/elsewhere")
    assert parse([]).output == "/elsewhere"
    assert parse(["--output", "here"]).output == "here"


@pytest.mark.parametrize("option", ["--rounds", "--seconds"])
def test_nothing_to_do_is_refused(option, capsys):
    with pytest.raises(SystemExit):
        parse([option, "0"])
    assert "must be at least 1. Received: 0" in capsys.readouterr().err

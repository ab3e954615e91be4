import pytest

pytest.importorskip("torch", reason="the GPU benchmark runs in PyTorch")

from benchmarks.gpu import machine  # noqa: E402


def test_a_tool_that_hangs_is_named_and_the_rest_is_shown(monkeypatch, capfd):
    monkeypatch.setattr(machine, "_TOOLS", (("sleep", "60"), ("echo", "the next tool")))
    monkeypatch.setattr(machine, "_TOOL_LIMIT_S", 0.2)
    assert machine.main(["--emulated"]) == 0
    output = capfd.readouterr().out
    assert "did not end within 0.2 s" in output
    assert output.index("did not end") < output.index("the next tool\n") < output.index("measured: copy")

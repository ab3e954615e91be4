import os
import subprocess
import sys

from benchmarks import ROOT

PROGRAM = """
import sys
from benchmarks.gpu import report
from benchmarks.timing import measure
assert "tensorflow" not in sys.modules
print(report.text(report.Findings(wrong=["Nothing."])))
"""


def test_nothing_imports_tensorflow_even_where_that_would_fail(tmp_path):
    for package in ("tensorflow", "keras"):
        (tmp_path / f"{package}.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "WRONG: Nothing.\n"), done.stderr

"""bazel/serving/link_into.sh, on files of the form that TensorFlow Serving's have. Bazel is not run."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = "tensorflow_serving/model_servers/BUILD"


@pytest.fixture
def serving(tmp_path) -> Path:
    (tmp_path / SERVER).parent.mkdir(parents=True)
    (tmp_path / SERVER).write_text('cc_library(name = "a")\n\nSUPPORTED_TENSORFLOW_OPS = if_v2([]) + ["//b"]\n')
    (tmp_path / "WORKSPACE").write_text('workspace(name = "tf_serving")\n')
    return tmp_path


def link_into(folder: Path) -> subprocess.CompletedProcess:
    script = ROOT / "bazel" / "serving" / "link_into.sh"
    return subprocess.run([script, folder], capture_output=True, text=True, check=False)


def test_the_ops_are_added_to_those_of_the_server(serving):
    assert link_into(serving).returncode == 0
    added = 'SUPPORTED_TENSORFLOW_OPS = ["@tf_dcnv2//:kernels", "@tf_dcnv2//:ops"] + if_v2([]) + ["//b"]\n'
    assert added in (serving / SERVER).read_text()
    workspace = (serving / "WORKSPACE").read_text()
    assert workspace.startswith('workspace(name = "tf_serving")\n')
    paths = [line.split('"')[1] for line in workspace.splitlines() if line.strip().startswith("path = ")]
    assert len(paths) == 3 and all((Path(path) / "WORKSPACE").is_file() for path in paths)


def test_a_second_time_changes_nothing(serving):
    link_into(serving)
    before = [(serving / name).read_text() for name in (SERVER, "WORKSPACE")]
    assert "links the ops already" in link_into(serving).stderr
    assert [(serving / name).read_text() for name in (SERVER, "WORKSPACE")] == before


def test_what_is_no_source_of_the_server_is_left_alone(serving, tmp_path):
    (serving / SERVER).write_text("# another list of ops\n")
    failed = link_into(serving)
    assert failed.returncode == 1 and "has no SUPPORTED_TENSORFLOW_OPS" in failed.stderr
    assert (serving / "WORKSPACE").read_text() == 'workspace(name = "tf_serving")\n'
    failed = link_into(tmp_path / "nothing")
    assert failed.returncode == 1 and "does not exist: is " in failed.stderr

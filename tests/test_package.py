import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import build_backend
import keras
import native_choice
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_release
import yaml

import tf_dcnv2
import tf_dcnv2_cli as cli
from tf_dcnv2.ops import native

ROOT = Path(__file__).parents[1]
HEAVY_PACKAGES = {"official", "tf_keras", "pycocotools", "matplotlib", "skimage", "cv2", "yaml"}
HEAVY = HEAVY_PACKAGES | {"tf_dcnv2.models", "tf_dcnv2.data"}
PUBLIC_NAMES = {
    "ops": {"deform_conv2d", "deform_roi_pool", "portable_ops"},
    "layers": {
        "DeformableConv2D",
        "ModulatedDeformableConv2D",
        "RoIAlign",
        "DeformableRoIPooling",
        "ModulatedDeformableRoIPooling",
        "make_deformable",
    },
    "models": {"ResNetBackbone", "FasterRCNN", "FeatureMimicking"},
    "data": {"convert_coco", "load_records", "make_synthetic_coco"},
    "evaluation": {"evaluate_coco"},
    "export": {"export_saved_model", "op_library_path"},
    "optimizers": {"scale_learning_rates", "scaled_class"},
    "training": {"train", "TrainOptions", "NaNGuard", "CocoEvaluation"},
}


def imported_modules(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_ops_and_layers_and_nothing_heavy():
    # Keras imports matplotlib, OpenCV and pandas by itself where it finds them.
    code = "import sys, tensorflow, keras; before = {*sys.modules}; import tf_dcnv2; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert {"tf_dcnv2.ops", "tf_dcnv2.layers", "tf_dcnv2.optimizers"} <= modules
    assert not modules & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["convert"],
        ["export", "run", "--output", "x", "--ops", "fast"],
        ["evaluate", "run", "--records", "x", "--batch-size", "0"],
    ],
)
def test_help_and_mistakes_are_answered_without_loading_tensorflow(arguments):
    modules = imported_modules(
        f"import contextlib, tf_dcnv2_cli\nwith contextlib.suppress(SystemExit): tf_dcnv2_cli.main({arguments})"
    )
    assert not modules & {"tensorflow", "keras", "tf_dcnv2"}


@pytest.mark.parametrize("program", [pytest.param("train.py", marks=pytest.mark.slow), "/usr/bin/tf-dcnv2"])
def test_a_model_with_layers_of_this_package_loads_after_its_import(program, native_ops, tmp_path):
    """Nothing has to be called first, whatever the program is called."""
    layer = tf_dcnv2.layers.ModulatedDeformableConv2D(6, 3, implementation="native")
    model = keras.Sequential([keras.Input((None, None, 4)), layer])
    model.export(tmp_path / "model", verbose=False)
    x = np.random.default_rng(0).standard_normal((1, 8, 9, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    code = f"""
import sys
sys.argv[0] = {program!r}
import tf_dcnv2, tensorflow as tf, numpy as np
model = tf.saved_model.load({str(tmp_path / "model")!r})
np.save({str(tmp_path / "y.npy")!r}, model.serve(np.load({str(tmp_path / "x.npy")!r})))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(x), rtol=1e-5, atol=1e-6)


BACKEND = "tf-dcnv2 works with Keras' TensorFlow backend only, not with '{}'. {}"
REMEDY = 'Set "backend": "tensorflow" in ~/.keras/keras.json, or unset KERAS_BACKEND.'


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("backend", ["jax", "torch"])  # whether or not they are installed
def test_other_keras_backends_are_refused_at_import(backend):
    done = run_python("import tf_dcnv2", KERAS_BACKEND=backend)
    assert done.returncode != 0
    error = f"tf_dcnv2._keras_backend.UnsupportedBackendError: {BACKEND.format(backend, REMEDY)}"
    assert done.stderr.splitlines()[-1] == error
    as_import_error = "try: import tf_dcnv2\nexcept ImportError as error: print(error)"
    assert run_python(as_import_error, KERAS_BACKEND=backend).stdout.strip() == BACKEND.format(backend, REMEDY)


def test_a_backend_from_the_settings_of_keras_is_refused_too(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert BACKEND.format("jax", REMEDY) in run_python("import tf_dcnv2", KERAS_HOME=str(tmp_path)).stderr
    (tmp_path / "keras.json").write_text('{"backend": "tensorflow"}')
    assert run_python("import tf_dcnv2", KERAS_HOME=str(tmp_path)).returncode == 0


@pytest.mark.parametrize("command", ["presets", "doctor"])
def test_commands_refuse_other_keras_backends_and_doctor_explains(command):
    code = (
        f"import sys\nsys.argv = ['/usr/bin/tf-dcnv2', {command!r}]\nimport tf_dcnv2_cli as cli\nsys.exit(cli.main())"
    )
    done = run_python(code, KERAS_BACKEND="jax")
    assert done.returncode == (1 if command == "doctor" else 2)
    if command == "doctor":
        assert "backend jax" in done.stdout and REMEDY in done.stdout
    else:
        assert done.stderr.splitlines()[-1] == f"tf-dcnv2 presets: error: {BACKEND.format('jax', REMEDY)}"


@pytest.mark.parametrize("module", sorted(PUBLIC_NAMES))
def test_public_names_are_there(module):
    assert PUBLIC_NAMES[module] <= set(dir(getattr(tf_dcnv2, module)))


def test_submodules_are_found_as_attributes_and_others_are_not():
    assert set(PUBLIC_NAMES) <= set(dir(tf_dcnv2))
    with pytest.raises(AttributeError, match="'tf_dcnv2' has no attribute 'nothing'"):
        tf_dcnv2.nothing  # noqa: B018 - the access is what is tested


def test_the_installed_version_is_that_of_the_source():
    assert metadata.version("tf-dcnv2") == tf_dcnv2.__version__


def test_the_citation_and_the_changelog_name_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == tf_dcnv2.__version__
    newest = re.search(r"^## \[.*", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group()
    assert tf_dcnv2.__version__ in newest


def supported_pythons() -> list[str]:
    classifiers = metadata.metadata("tf-dcnv2").get_all("Classifier")
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text) for text in classifiers]
    return [match.group(1) for match in found if match]


def test_the_workflow_runs_what_continuous_integration_runs_on_every_supported_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["test"]
    assert [step["run"] for step in workflow["steps"] if "run" in step] == [".ci/run"]
    assert workflow["strategy"]["matrix"]["python"] == supported_pythons()


def test_wheels_are_tested_with_every_supported_python():
    tested = re.search(
        r'^build = "cp\{(.*)\}-manylinux_\*"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    ).group(1)
    assert tested.split(",") == [version.replace(".", "") for version in supported_pythons()]


def test_the_makefile_installs_the_build_requirements_of_the_package():
    in_makefile = re.search(r"^BUILD_REQUIREMENTS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1)
    in_pyproject = re.search(r"^requires = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    assert in_makefile.replace("'", "").split() == json.loads(in_pyproject)


def test_the_makefile_installs_the_tensorflow_of_model_garden():
    """The one that is installed before the ops are compiled, and must not be replaced afterwards."""
    makefile = (ROOT / "Makefile").read_text()
    tensorflow = re.search(r"^TENSORFLOW := 'tensorflow(.*)'$", makefile, re.MULTILINE).group(1)
    garden = re.search(r'"tf-models-official(.*?)"', (ROOT / "pyproject.toml").read_text()).group(1)
    assert tensorflow == garden
    assert f"tensorflow{tensorflow}" == tensorflow_release.DEFAULT
    releases = re.search(r"^TENSORFLOW_RELEASES := (.*)$", makefile, re.MULTILINE).group(1).split()
    (major, oldest), (_, newest) = tensorflow_release.OLDEST, tensorflow_release.NEWEST
    assert releases == [f"{major}.{minor}" for minor in range(oldest, newest + 1)]
    assert any(garden.startswith(f">={release},") for release in releases)
    assert f"tensorflow>={releases[0]},<{major}.{newest + 1}" == tensorflow_release.SUPPORTED


@pytest.mark.parametrize(
    "installed, wanted",
    [
        ("2.16.2", "tensorflow==2.16.*"),
        ("2.21.0", "tensorflow==2.21.*"),
        ("", tensorflow_release.DEFAULT),
        ("2.15.1", tensorflow_release.DEFAULT),
    ],
)
def test_isolated_builds_compile_against_the_tensorflow_that_is_installed(installed, wanted, tmp_path, monkeypatch):
    if installed:
        folder = tmp_path / f"tensorflow-{installed}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tensorflow\nVersion: {installed}\n")
    monkeypatch.setattr(sysconfig, "get_path", lambda kind: str(tmp_path))
    assert build_backend.get_requires_for_build_wheel()[-1] == wanted
    assert build_backend.get_requires_for_build_editable()[-1] == wanted


def test_a_build_without_custom_ops_needs_no_tensorflow(monkeypatch):
    monkeypatch.setenv("DCNV2_NATIVE", "0")
    assert not any("tensorflow" in requirement for requirement in build_backend.get_requires_for_build_wheel())


@pytest.mark.parametrize(("platform", "expected"), [("linux", True), ("darwin", False), ("win32", False)])
def test_custom_ops_are_built_on_linux_and_elsewhere_on_demand(platform, expected, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv("DCNV2_NATIVE", raising=False)
    assert native_choice.has_native_ops() is expected
    for text, choice in {"0": False, "1": True, "auto": expected}.items():
        monkeypatch.setenv("DCNV2_NATIVE", text)
        assert native_choice.has_native_ops() is choice and native_choice.prebuilt_ops() is None


def test_custom_ops_may_come_from_another_build(tmp_path, monkeypatch):
    monkeypatch.setenv("DCNV2_NATIVE", str(tmp_path))
    with pytest.raises(native_choice.UnknownChoice, match=f"a folder with _dcnv2_ops.so .* Received: '{tmp_path}'"):
        native_choice.has_native_ops()
    (tmp_path / "_dcnv2_ops.so").touch()
    (tmp_path / "_build_info.json").write_text('{"tensorflow": "2.20.0"}')
    assert native_choice.has_native_ops() and native_choice.prebuilt_ops() == tmp_path
    assert not any("tensorflow" in requirement for requirement in build_backend.get_requires_for_build_wheel())


def test_the_package_requires_the_tensorflow_that_its_ops_are_compiled_against():
    built_for = native.build_info()["tensorflow"]
    assert tensorflow_release.runtime_requirement(built_for) == "tensorflow=={}.{}.*".format(*built_for.split("."))
    assert tensorflow_release.installed_version() == tf.__version__


def test_the_page_on_blood_cells_shows_the_commands_of_their_example():
    script = (ROOT / "examples" / "train_bccd.sh").read_text()
    commands = script.partition("output=${2:-runs/bccd}\n")[2].strip()
    shown = commands.replace('"', "").replace("$data", "bccd").replace("$output", "runs/bccd")
    assert shown in (ROOT / "docs" / "blood-cells.md").read_text()


def test_every_command_of_the_blood_cell_example_parses():
    script = (ROOT / "examples" / "train_bccd.sh").read_text().replace("\\\n", " ")
    commands = [shlex.split(line)[1:] for line in script.splitlines() if line.strip().startswith("tf-dcnv2 ")]
    assert [command[0] for command in commands] == ["convert", "train", "evaluate", "predict", "export"]
    for command in commands:
        cli._parser().parse_args(command)

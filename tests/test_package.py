import json
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import tf_dcnv2
from tf_dcnv2 import cli

ROOT = Path(__file__).parents[1]
HEAVY = {
    *("official", "tf_keras", "pycocotools", "matplotlib", "skimage", "cv2", "yaml"),
    *("tf_dcnv2.models", "tf_dcnv2.data"),
}
PUBLIC_NAMES = {
    "ops": {"deform_conv2d", "deform_roi_pool", "portable_ops"},
    "layers": {
        "DeformableConv2D",
        "ModulatedDeformableConv2D",
        "RoIAlign",
        "DeformableRoIPooling",
        "ModulatedDeformableRoIPooling",
    },
    "models": {"ResNetBackbone", "FasterRCNN", "FeatureMimicking"},
    "data": {"convert_coco", "load_records", "make_synthetic_coco"},
    "evaluation": {"evaluate_coco"},
    "export": {"export_saved_model", "op_library_path"},
    "training": {"train", "TrainOptions"},
}


def imported_modules(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_ops_and_layers_and_nothing_heavy():
    # Keras imports matplotlib, OpenCV and pandas by itself where it finds them.
    modules = imported_modules("import tf_dcnv2") - imported_modules("import tensorflow, keras")
    assert {"tf_dcnv2.ops", "tf_dcnv2.layers"} <= modules
    assert not modules & HEAVY


def test_help_comes_without_loading_tensorflow():
    modules = imported_modules(
        "import sys\nsys.argv[0] = '/usr/bin/tf-dcnv2'\nimport tf_dcnv2.cli as cli\ncli._parser()"
    )
    assert "tensorflow" not in modules


@pytest.mark.parametrize("module", sorted(PUBLIC_NAMES))
def test_public_names_are_there(module):
    assert PUBLIC_NAMES[module] <= set(dir(getattr(tf_dcnv2, module)))


def test_submodules_are_found_as_attributes_and_others_are_not():
    assert set(PUBLIC_NAMES) <= set(dir(tf_dcnv2))
    with pytest.raises(AttributeError, match="'tf_dcnv2' has no attribute 'nothing'"):
        tf_dcnv2.nothing  # noqa: B018 - the access is what is tested


def test_the_installed_version_is_that_of_the_source():
    assert metadata.version("tf-dcnv2") == tf_dcnv2.__version__


def test_the_makefile_installs_the_build_requirements_of_the_package():
    in_makefile = re.search(r"^BUILD_REQUIREMENTS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1)
    in_pyproject = re.search(r"^requires = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    assert in_makefile.replace("'", "").split() == json.loads(in_pyproject)


def test_the_readme_shows_the_commands_of_the_blood_cell_example():
    script = (ROOT / "examples" / "train_bccd.sh").read_text()
    commands = script.partition("output=${2:-runs/bccd}\n")[2].strip()
    shown = commands.replace('"', "").replace("$data", "bccd").replace("$output", "runs/bccd")
    assert shown in (ROOT / "README.md").read_text()


def test_every_command_of_the_blood_cell_example_parses():
    script = (ROOT / "examples" / "train_bccd.sh").read_text().replace("\\\n", " ")
    commands = [shlex.split(line)[1:] for line in script.splitlines() if line.strip().startswith("tf-dcnv2 ")]
    assert [command[0] for command in commands] == ["convert", "train", "evaluate", "predict", "export"]
    for command in commands:
        cli._parser().parse_args(command)

import json

import pytest

from tf_dcnv2.models.checkpoints.project_configs import parse_python_config, read_project_config

PYTHON = '''
"""A docstring."""
norm = dict(type='BN', requires_grad=True)
model = dict(
    type='FasterRCNN',
    backbone=dict(depth=50, norm_cfg=norm, stage_with_dcn=(False, True, True, True), momentum=-0.5),
    data={'mean': [123.675, 116.28]},
)
'''


def test_python_is_read_as_data():
    config = parse_python_config(PYTHON, "config.py")
    assert config["model"]["backbone"] == {
        "depth": 50,
        "norm_cfg": {"type": "BN", "requires_grad": True},
        "stage_with_dcn": [False, True, True, True],
        "momentum": -0.5,
    }
    assert config["model"]["data"] == {"mean": [123.675, 116.28]}


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "x = __import__('os').system('touch {marker}')",
        "open('{marker}', 'w')",
        "x = [open('{marker}', 'w')]",
        "x = dict(**unknown)",
        "x = f'{1 + 1}'",
        "x = 2 ** 10000000",
        "def f(): pass",
        "x, y = 1, 2",
        "x = unknown",
        "x = dict([('a', 1)])",
        "x = -'a'",
    ],
)
def test_python_that_computes_is_refused_and_not_run(tmp_path, line):
    marker, path = tmp_path / "marker", tmp_path / "config.py"
    path.write_text(f"a = 1\n{line.replace('{marker}', str(marker))}\n")
    with pytest.raises(ValueError, match=r"config.py, line 2: a configuration is read as data"):
        read_project_config(path)
    assert not marker.exists()


def test_files_that_build_on_others(tmp_path):
    (tmp_path / "base.py").write_text("model = dict(backbone=dict(depth=50, norm=dict(type='BN', eps=1)), neck=1)\n")
    (tmp_path / "top.py").write_text(
        "_base_ = ['./base.py']\nmodel = dict(backbone=dict(depth=101, norm=dict(_delete_=True, type='GN')))\n"
    )
    model = {"backbone": {"depth": 101, "norm": {"type": "GN"}}, "neck": 1}
    assert read_project_config(tmp_path / "top.py") == {"model": model}
    (tmp_path / "base.yaml").write_text("MODEL: {RESNETS: {DEPTH: 50, NORM: BN}}\n")
    (tmp_path / "top.yaml").write_text(
        "_BASE_: base.yaml\nMODEL: {RESNETS: {DEPTH: 101}}\nSIZES: !!python/tuple [1, 2]\n"
    )
    expected = {"MODEL": {"RESNETS": {"DEPTH": 101, "NORM": "BN"}}, "SIZES": [1, 2]}
    assert read_project_config(tmp_path / "top.yaml") == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "must be a .yaml, .json or .py file"),
        ("a.json", "{", "a.json does not parse"),
        ("a.json", "[1]", "holds a list, not settings"),
        ("a.yaml", "a: [", "a.yaml does not parse"),
        ("a.yaml", "a: !!python/object/apply:os.system ['true']", "a.yaml does not parse"),
        ("a.py", "a = (", "a.py does not parse"),
        ("a.py", "a = " + "[" * 300 + "]" * 300, "a.py does not parse"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_project_config(tmp_path / name)


def test_a_file_that_builds_on_a_missing_one(tmp_path):
    (tmp_path / "a.py").write_text("_base_ = 'none.py'\n")
    with pytest.raises(FileNotFoundError, match=r"none.py"):
        read_project_config(tmp_path / "a.py")


@pytest.mark.parametrize("case", ["mm_mask_mdconv", "mm_faster_dconv", "mm_faster_mdconv_group4", "mm_mask_regular"])
def test_the_python_and_json_forms_of_a_configuration_are_equal(shared_dir, case):
    folder = shared_dir / "golden" / "detectors" / case
    as_json = json.loads((folder / "config.json").read_text())
    assert read_project_config(folder / "config.py") == read_project_config(folder / "config.json") == as_json

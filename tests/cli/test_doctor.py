import pytest

from tf_dcnv2.ops import native
from tf_dcnv2_cli import doctor, main


def test_a_healthy_installation_is_reported_with_its_versions(capsys):
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    for subject in ("python", "tensorflow", "keras", "numpy", "detection", "ops"):
        assert f"\n{subject}" in f"\n{report}"
    assert "native deformable convolution: correct" in report
    assert "composite deformable convolution: correct" in report
    assert report.endswith("everything works\n")


def test_missing_ops_are_a_problem_with_a_remedy(monkeypatch, capsys):
    def unavailable():
        raise native.NativeOpsUnavailable("The custom ops are not built. Reinstall them.")

    monkeypatch.setattr(native, "load", unavailable)
    assert main(["doctor"]) == 1
    report = capsys.readouterr().out
    assert "PROBLEM: the custom ops cannot be used\n" in report
    assert "Reinstall them." in report
    assert report.endswith("1 problem, see above\n")


def test_a_package_without_custom_ops_works_and_says_that_it_is_slower(monkeypatch, capsys):
    monkeypatch.setattr(native, "is_built", lambda: False)
    native._load_once.cache_clear()
    try:
        assert main(["doctor"]) == 0
    finally:
        native._load_once.cache_clear()
    report = capsys.readouterr().out
    assert "not built: TensorFlow's own ops compute the same, slower; DCNV2_NATIVE=1" in report
    assert "composite deformable convolution: correct" in report and "native deformable" not in report


def test_a_check_that_breaks_down_is_a_problem(monkeypatch, capsys):
    def _numpy():
        raise ImportError("numpy is not what it was")

    monkeypatch.setattr(doctor, "_numpy", _numpy)
    assert main(["doctor"]) == 1
    assert "PROBLEM: ImportError: numpy is not what it was" in capsys.readouterr().out


def test_missing_detection_packages_are_named_but_no_problem(monkeypatch):
    monkeypatch.setattr(doctor, "_installed_version", lambda name: None if name == "pycocotools" else "1.0")
    (finding,) = doctor._detection_packages()
    assert finding.ok
    assert "not installed: pycocotools" in finding.text


@pytest.mark.parametrize("version", ["2.19.1", "2.21.0"])
def test_another_tensorflow_is_a_problem(version, monkeypatch):
    monkeypatch.setattr("tensorflow.__version__", version)
    finding = next(iter(doctor._tensorflow()))
    assert not finding.ok
    assert "tensorflow==2.20" in finding.remedy

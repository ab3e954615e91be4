import json

import pytest

from tf_dcnv2 import cli
from tf_dcnv2.benchmark.agreement import Disagreement
from tf_dcnv2.benchmark.options import available_cores


def run_main(*argv: str) -> int:
    """`main`'s exit status, also where argparse leaves by SystemExit."""
    try:
        return cli.main(argv)
    except SystemExit as exit_:
        return exit_.code


@pytest.mark.usefixtures("native_ops")
def test_the_command_measures_and_leaves_results_and_a_picture(tmp_path, capsys):
    arguments = ["--quick", "--repetitions", "1", "--sections", "conv,roi,scaling", "--output", str(tmp_path / "new")]
    assert cli.main(["benchmark", "ops", *arguments]) == 0
    report = capsys.readouterr().out
    for line in ("Deformable convolution forward, float32", "RoI pooling", "More threads", "Peak memory", "verdict"):
        assert f"\n{line}" in report

    folder = tmp_path / "new"
    assert {path.name for path in folder.iterdir()} == {"results.json", "results.md", "benchmark.png"}
    assert (folder / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((folder / "results.json").read_text())
    assert results["machine"]["packages"]["tensorflow"].startswith("2.20")
    assert results["machine"]["instruction_set"] in ("baseline", "avx2", "avx512")
    assert results["options"] == {"threads": available_cores(), "repetitions": 1, "quick": True}
    assert list(results["sections"]) == ["conv", "roi", "scaling"]
    group = results["sections"]["conv"]["groups"][0]
    assert (group["work"], group["case"]) == ("forward", "8 ch, 12 x 20")
    assert set(group["milliseconds"]["dense convolution"]) == {"median", "lower_quartile", "upper_quartile", "rounds"}
    growth = results["sections"]["scaling"]
    assert [group["threads"] for group in growth["groups"] if "threads" in group][0] == 1
    assert {group["pixels"] for group in growth["groups"] if "pixels" in group} == {60, 240}
    assert {group["channels"] for group in growth["groups"] if "channels" in group} == {8, 16}
    assert [entry["column_bytes"] for entry in growth["memory"]] == [17280, 69120]
    goals = [goal for section in results["sections"].values() for goal in section["goals"]]
    assert all(set(goal) == {"subject", "case", "value", "bound", "at_least", "met"} for goal in goals)
    assert f"{sum(goal['met'] for goal in goals)} of {len(goals)} goals met" in report
    # Every table of the terminal is in the document too.
    document = (folder / "results.md").read_text()
    titles = [line[2:-2] for line in document.splitlines() if line.startswith("**")]
    assert titles and all(f"\n{title}\n" in report for title in titles)


def test_a_disagreement_gives_status_1_and_names_the_contender(tmp_path, monkeypatch, capsys):
    def disagree(*arguments, **keywords):
        raise Disagreement("onnxruntime disagrees with composite.")

    monkeypatch.setattr("tf_dcnv2.benchmark.conv.run", disagree)
    assert cli.main(["benchmark", "ops", "--quick", "--sections", "conv", "--output", str(tmp_path / "new")]) == 1
    assert capsys.readouterr().err == "tf-dcnv2 benchmark: error: onnxruntime disagrees with composite.\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("layers",), "invalid choice: 'layers'"),
        (("ops", "--sections", "conv,speed"), "sections must be some of conv, roi, scaling, step. Received: 'conv,spe"),
        (("ops", "--threads", "0"), "argument --threads: must be at least 1. Received: 0"),
        (("ops", "--threads", "100000"), "threads must be between 1 and the"),
        (("ops", "--step-image", "large"), "--step-image takes HEIGHTxWIDTH, such as 512x800. Received: 'large'"),
    ],
)
def test_arguments_that_make_no_sense_give_one_line_and_status_2(arguments, message, capsys):
    assert run_main("benchmark", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_help_describes_the_sections(capsys):
    assert run_main("benchmark", "--help") == 0
    text = capsys.readouterr().out
    assert all(f"\n  {section} " in text for section in ("conv", "roi", "scaling", "step"))

import json
from pathlib import Path

from tf_dcnv2.data import read_dataset_info
from tf_dcnv2_cli import main


def test_conversion_reports_the_data_set_and_how_to_go_on(synthetic, tmp_path, capsys):
    prefix = str(tmp_path / "records" / "shapes")
    assert main(["convert", "--images", synthetic[0], "--annotations", synthetic[1], "--output", prefix]) == 0
    report = capsys.readouterr().out
    info = read_dataset_info(prefix)
    assert f"data       {info}\n" in report
    assert info.shards[0] in report
    assert f"tf-dcnv2 train --train {prefix}" in report


def test_items_left_out_are_listed_but_not_without_end(synthetic, tmp_path, capsys):
    content = json.loads(Path(synthetic.annotations_file).read_text())
    missing = [{"id": 100 + i, "file_name": f"missing{i}.jpg", "height": 96, "width": 128} for i in range(12)]
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps({**content, "images": content["images"] + missing}))
    arguments = [
        "convert",
        "--images",
        synthetic[0],
        "--annotations",
        str(annotations),
        "--output",
        str(tmp_path / "x"),
    ]
    assert main(arguments) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped")]
    assert len(lines) == 11
    assert "missing0.jpg" in lines[0]
    assert lines[-1] == "skipped    ... and 2 more"

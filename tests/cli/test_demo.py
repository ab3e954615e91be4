import pytest

import tf_dcnv2_cli as cli
from tf_dcnv2_cli import demo


def test_the_demo_goes_the_whole_way_by_commands_that_users_have(tmp_path, monkeypatch, capsys):
    commands = []

    def record(name, *arguments):
        commands.append(cli._parser().parse_args([name, *map(str, arguments)]))

    monkeypatch.setattr(demo, "_command", record)
    monkeypatch.setattr(demo, "_check_exported", lambda *arguments: None)
    monkeypatch.setattr(demo, "_save_grid", lambda folder, names: folder / "all.png")
    arguments = ["demo", "--output", str(tmp_path), "--train-images", "3", "--val-images", "2", "--max-minutes", "1"]
    assert cli.main(arguments) == 0
    names = [command.command for command in commands]
    assert names == ["convert", "convert", "train", "evaluate", "export", "export", "predict"]
    train, predict = commands[2], commands[-1]
    assert (train.preset, train.max_minutes) == ("faster_rcnn_small_dcnv2", 1)
    assert len(predict.images) == 2
    assert "look at" in capsys.readouterr().out


@pytest.mark.slow
def test_the_demo_leaves_a_detector_exports_and_pictures(tmp_path, capsys):
    arguments = ["demo", "--output", str(tmp_path), "--train-images", "8", "--val-images", "3", "--max-minutes", "0.5"]
    assert cli.main(arguments) == 0
    report = capsys.readouterr().out
    for ops in ("native", "portable"):
        assert (tmp_path / "exported" / ops / "saved_model.pb").exists()
        assert f"check      {tmp_path / 'exported' / ops} gives the same" in report
    assert (tmp_path / "run" / "best.keras").exists()
    assert (tmp_path / "pictures" / "all.png").exists()

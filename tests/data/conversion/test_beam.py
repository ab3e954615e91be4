"""Conversion by Apache Beam, on its runner for one machine. What Beam adds is left out where it is not installed."""

import importlib.util
import sys
from pathlib import Path

import pytest

from tf_dcnv2.data import convert_coco
from tf_dcnv2_cli import main

DIRECT = ["--runner=DirectRunner"]
PROCESSES = [*DIRECT, "--direct_num_workers=2", "--direct_running_mode=multi_processing"]

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None, reason="Apache Beam is not installed: pip install '.[beam]'"
)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@needs_beam
@pytest.mark.parametrize("options", [DIRECT, pytest.param(PROCESSES, marks=pytest.mark.slow)])
def test_workers_of_beam_write_the_same_records_and_the_same_report(many_images, prefix, options):
    source, progress = many_images.save(), []
    here = convert_coco(*source, f"{prefix}/here/set", num_shards=4)
    by_beam = convert_coco(
        *source,
        f"{prefix}/beam/set",
        num_shards=4,
        beam_options=options,
        progress=lambda *done: progress.append(done),
    )
    assert contents(f"{prefix}/beam") == contents(f"{prefix}/here") and len(contents(f"{prefix}/here")) == 6
    assert (by_beam.skipped, by_beam.boxes, progress[-1]) == (here.skipped, here.boxes, (12, 12))


@needs_beam
def test_a_pipeline_goes_on_after_the_shards_that_were_finished(many_images, prefix, monkeypatch):
    import apache_beam

    source, given = many_images.save(), []
    expected = convert_coco(*source, f"{prefix}-whole", num_shards=4)

    def interrupt(done, total):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_coco(*source, prefix, num_shards=4, progress=interrupt)
    create = apache_beam.Create
    monkeypatch.setattr(apache_beam, "Create", lambda shards: given.extend(shards) or create(shards))
    report = convert_coco(*source, prefix, num_shards=4, beam_options=DIRECT)
    assert [Path(path).name for path in given] == ["2.tfrecord.task", "3.tfrecord.task"]
    for path, other in zip(report.shards, expected.shards, strict=True):
        assert Path(path).read_bytes() == Path(other).read_bytes()
    assert not [path for path in Path(prefix).parent.iterdir() if path.name.startswith(".")]


@needs_beam
def test_what_a_worker_cannot_write_ends_the_pipeline_and_keeps_the_earlier_records(many_images, prefix, monkeypatch):
    source = many_images.save()
    convert_coco(*source, prefix, num_shards=4)
    before = contents(Path(prefix).parent)
    many_images.add_box(1, [1, 1, 5, 5])

    def full(*_):
        raise OSError(28, "No space left on device", "a shard")

    monkeypatch.setattr("tf_dcnv2.data.records.staged_shards.StagedShards.finish", full)
    with pytest.raises(Exception, match="No space left on device"):
        convert_coco(*many_images.save(), prefix, num_shards=4, beam_options=DIRECT)
    assert contents(Path(prefix).parent) == before


@needs_beam
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--runner=Horse"], "Unexpected pipeline runner: Horse"),
        (["--runner=no.such.Runner"], "No module named 'no'"),
        ([*DIRECT, "--direct_num_wheels=4"], "no option direct_num_wheels"),
        ([*DIRECT, "--direct_num_workers=many"], "--direct_num_workers: invalid int value: 'many'"),
    ],
)
def test_runners_and_options_that_beam_does_not_have_are_refused_before_anything_is_read(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        convert_coco(tmp_path / "none", tmp_path / "none.json", tmp_path / "out", beam_options=options)
    assert not list(tmp_path.iterdir())


def test_without_beam_the_command_says_what_to_install(synthetic_command, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert main([*synthetic_command, "--beam-runner", "DirectRunner"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "tf-dcnv2 convert: error: apache_beam is not installed; conversion with Apache Beam needs: "
        "pip install 'tf-dcnv2[beam]'"
    ]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--beam-options", "parallelism=4"], "--beam-options are of --beam-runner: give both"),
        (["--beam-runner", "DirectRunner", "--jobs", "2"], "--jobs are processes of this machine"),
    ],
)
def test_options_of_beam_that_make_no_sense_are_usage_errors(synthetic_command, extra, message, capsys):
    assert main([*synthetic_command, *extra]) == 2
    assert message in capsys.readouterr().err


def test_the_options_of_the_command_are_those_of_the_pipeline(synthetic_command, monkeypatch):
    seen = []
    monkeypatch.setattr("tf_dcnv2.data.convert_coco", lambda *_, **options: seen.append(options) or exit_now())

    def exit_now():
        raise RuntimeError("enough")

    options = ["--beam-options", "flink_master=host:8081", "flink_submit_uber_jar", "--beam-runner", "FlinkRunner"]
    assert main([*synthetic_command, *options]) == 1
    expected = ["--runner=FlinkRunner", "--flink_master=host:8081", "--flink_submit_uber_jar"]
    assert seen[0]["beam_options"] == expected


@pytest.fixture
def synthetic_command(coco, tmp_path):
    """A conversion of one image."""
    coco.add_image(1)
    images, annotations = map(str, coco.save())
    return ["convert", "--images", images, "--annotations", annotations, "--output", str(tmp_path / "out" / "x")]

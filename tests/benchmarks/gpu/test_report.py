import json

from benchmarks.cases import BOTH, FLOAT16, FLOAT32, FORWARD, TF32
from benchmarks.gpu import report
from benchmarks.gpu.cases import KERNEL_GRADIENT
from benchmarks.gpu.findings import DEFAULT, OURS, POOLING, TORCHVISION, VARIANTS, Findings, Memory
from benchmarks.gpu.floors import Rates
from benchmarks.results import Goal

MEMORY = Memory("a case", "float16", 2_000_000, 10.0, 20, 9_000_000, 0, None)


def test_a_row_of_the_table_has_times_ratios_floor_and_error(conv_measurement):
    rows = report.times_table(Findings(measurements=[conv_measurement()])).rows
    assert rows[0] == [
        *("convolution, forward", "a case", "float32", "4000 (4000-4000)", "3000", "1.0e-05"),
        *("16000 (16000-16000)", "4.00", "2000 (2000-2000)", "2.00", "500", "bytes", "8.00"),
    ]
    assert [row[2] for row in rows] == ["float32", "TF32", "bfloat16", "float16"]


def test_what_is_absent_says_why_and_has_no_ratio(measured):
    absent = {(TORCHVISION, FLOAT32): "not installed", (OURS, FLOAT16): "error 1.0e-01"}
    item = measured({(OURS, FLOAT32): 1.0}, subject=POOLING, work=BOTH, absent=absent)
    float32, _, float16 = report.times_table(Findings(measurements=[item])).rows
    assert float32[6:10] == ["not installed", "-", "-", "-"]
    assert (float16[3], float16[-1]) == ("error 1.0e-01", "-")


def test_the_overview_puts_measured_beside_expected_and_floor_kernel_by_kernel(conv_measurement):
    items = [conv_measurement(work) for work in (FORWARD, BOTH, FORWARD)]
    table = report.overview_table(Findings(measurements=items))
    assert table.header == ["B x H x W x C", "float32", "TF32", "bfloat16", "torchvision float32"]
    case = ["  a case", "4000 / 3000 / 500", "2000 / - / 500", "1000 / - / 500", "16000 / 15000"]
    assert table.rows == [
        *(["convolution, forward", "", "", "", ""], case, case),
        *(["convolution, forward + backward", "", "", "", ""], case),
    ]


def test_where_nothing_is_known_the_overview_says_so_once(measured):
    item = measured({(OURS, FLOAT32): 1.0}, work=KERNEL_GRADIENT)
    assert report.overview_table(Findings(measurements=[item])).rows[1][1:] == ["1000 / - / 500", "-", "-", "-"]


def test_without_rates_there_are_no_floors_and_times_all_the_same(measured):
    findings = Findings(measurements=[measured({(OURS, FLOAT32): 1.0}, floors={})])
    assert report.overview_table(findings).rows[1][1] == "1000"
    assert report.times_table(findings).rows[0][-3:] == ["-", "-", "-"]


def test_speed_is_compared_as_users_get_it_and_in_the_same_arithmetic(conv_measurement, measured):
    pooled = measured({(OURS, FLOAT32): 1.0, (TORCHVISION, FLOAT32): 2.0}, subject=POOLING)
    table = report.comparisons_table(Findings(measurements=[conv_measurement(), pooled]))
    assert table.header[2:] == ["framework defaults", "float32", "TF32", "bfloat16", "float16"]
    assert [row[2:] for row in table.rows] == [
        # Ours in TF32 to theirs in float32 first; pooling has no TF32.
        ["8.00", "4.00", "8.00", "16.00", "16.00"],
        ["2.00", "2.00", "-", "-", "-"],
    ]


def test_variants_are_relative_to_the_librarys_own_choice(measured):
    times = {(DEFAULT, FLOAT32): 2.0, ("large tile", FLOAT32): 3.0, (DEFAULT, TF32): 1.0, ("slab 1", TF32): 0.5}
    table = report.variants_table(Findings(measurements=[measured(times, subject=VARIANTS)]))
    assert table.header == ["", "case", "type", "default, ms", "large tile", "slab 1"]
    assert table.rows == [
        ["forward", "a case", "float32", "2000", "1.50", "-"],
        ["forward", "a case", "TF32", "1000", "-", "0.50"],
        ["forward", "a case", "bfloat16", "-", "-", "-"],
    ]


def test_goals_of_a_kind_are_one_row_with_the_worst_case():
    goals = [
        *(Goal("speed", case, value, 3.0, at_least=True) for case, value in (("small", 2.0), ("large", 4.0))),
        *(Goal("time", case, value, 1.5) for case, value in (("small", 1.0), ("large", 1.4))),
    ]
    assert report.goals_summary(goals).rows == [
        ["speed", "at least 3", "2.000", "small", "1 of 2"],
        ["time", "at most 1.5", "1.400", "large", "2 of 2"],
    ]


def test_memory_is_in_megabytes():
    assert report.memory_table(Findings(memory=[MEMORY])).rows == [["a case", "float16", "9.0", "2.0", "0.0", "-"]]


def test_text_and_markdown_name_the_device_its_rates_and_what_is_wrong(conv_measurement):
    findings = Findings({"device": "a GPU"}, Rates(4e12, {"TF32": 4.2e14}))
    findings.measurements.append(conv_measurement())
    findings.wrong.append("A value.")
    description = "device a GPU; measured: copy 4000 GB/s, matrix product in TFLOP/s TF32 420"
    text, markdown = report.text(findings), report.markdown(findings)
    assert text.endswith(f"{description}\n\nWRONG: A value.")
    assert markdown.startswith(f"{description}.\n\n**Wrong:** A value.\n\n")
    assert "| convolution, forward | a case | TF32 |" in markdown


def test_what_is_known_when_nothing_was_measured_can_be_shown():
    assert report.text(Findings(wrong=["build: failed."])) == "WRONG: build: failed."


def test_results_are_written_again_and_again(tmp_path, conv_measurement):
    findings = Findings()
    for count in (1, 2):
        findings.measurements.append(conv_measurement())
        report.write(findings, tmp_path / "results")
        assert len(json.loads((tmp_path / "results" / "results.json").read_text())["measurements"]) == count
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"results.json", "results.md"}

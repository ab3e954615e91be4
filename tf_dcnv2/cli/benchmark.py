"""`tf-dcnv2 benchmark`: how fast the ops are on this machine."""

import argparse

from tf_dcnv2.cli.arguments import positive_int
from tf_dcnv2.cli.console import say
from tf_dcnv2.cli.errors import UsageError

SUMMARY = "measure the speed of the ops on this machine"

DESCRIPTION = """\
Measures deformable convolution and RoI pooling against what else there is: TensorFlow's dense convolution, the same in
plain TensorFlow ops, onnxruntime and OpenVINO (where installed: pip install 'tf-dcnv2[bench]'), Model Garden. First all
are checked to agree; then they take turns. Prints medians and quartiles beside the goals, and writes results.json,
results.md and benchmark.png. Goals that are missed are information, the exit status stays 0; it is 1 if contenders
disagree. Takes up to 10 minutes on 2 cores.

sections:
  conv     3x3 deformable convolution on three feature maps of a detector
  roi      RoI pooling on a feature pyramid
  scaling  time and memory against pixels, channels and threads
  step     a training step of a deformable detector against that of a regular one"""

EXAMPLES = """\
  tf-dcnv2 benchmark ops
  tf-dcnv2 benchmark ops --sections conv,roi --threads 1 --output runs/one_thread"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("subject", choices=("ops",), help="what to measure: the ops")
    parser.add_argument(
        "--output", default="runs/benchmark", metavar="DIR", help="folder of the results (default: %(default)s)"
    )
    parser.add_argument("--threads", type=positive_int, metavar="N", help="of every contender (default: all cores)")
    parser.add_argument(
        "--repetitions", type=positive_int, metavar="N", help="rounds, fewer where a run takes seconds (default: 21)"
    )
    parser.add_argument(
        "--sections", metavar="LIST", help="some of conv,roi,scaling,step, separated by commas (default: all)"
    )
    parser.add_argument(
        "--step-image", metavar="HxW", help="size of the training step's image in pixels (default: 512x800)"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, not how fast")


def run(arguments: argparse.Namespace) -> None:
    """Measures, section by section, and says where the results are."""
    from tf_dcnv2.benchmark.options import SECTIONS, BenchmarkOptions

    sections = arguments.sections.split(",") if arguments.sections is not None else SECTIONS
    try:
        options = BenchmarkOptions(
            sections=tuple(sections),
            threads=arguments.threads,
            repetitions=arguments.repetitions,
            quick=arguments.quick,
            step_image=_image_size(arguments.step_image),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error

    from tf_dcnv2.benchmark import report
    from tf_dcnv2.benchmark.run import run_benchmark

    def show(section) -> None:
        tables = [*section.tables, *([report.goals_table(section.goals)] if section.goals else [])]
        for table in tables:
            print(f"\n{report.as_text(table)}", flush=True)
        print()

    done = run_benchmark(options, arguments.output, log=say, show=show)
    say("verdict", report.verdict(done))
    say("written", f"{arguments.output}/results.json, results.md and benchmark.png")


def _image_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        height, width = map(int, text.lower().split("x"))
    except ValueError:
        raise UsageError(f"--step-image takes HEIGHTxWIDTH, such as 512x800. Received: {text!r}") from None
    return height, width

"""`tf-dcnv2 report`: a training run as one HTML page."""

import argparse
import os
from pathlib import Path

from tf_dcnv2_cli.console import log

SUMMARY = "show a training run as one HTML page"

DESCRIPTION = """\
Writes one HTML page without scripts, which needs nothing but itself: how far the run is, its best AP, curves of
losses, AP and offsets, the pictures of its last drawing, what `tf-dcnv2 evaluate --analysis` has left in the run's
folder (classes, precision and recall, confusion, errors, the worst detections), and the configuration. A run that is
still training may be looked at too."""

EXAMPLES = """\
  tf-dcnv2 report runs/cells
  tf-dcnv2 evaluate runs/cells --records records/val --analysis runs/cells/analysis && tf-dcnv2 report runs/cells"""

GENERATOR = "tf-dcnv2 report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("run_path", metavar="RUN", help="folder of a training run")
    parser.add_argument(
        "--analysis", metavar="DIR", help="folder of an analysis to show (default: the run's own, RUN/analysis)"
    )
    parser.add_argument("--output", metavar="HTML", help="page to write (default: RUN/report.html)")


def run(arguments: argparse.Namespace) -> None:
    """Reads the run and writes the page."""
    from tf_dcnv2._core.atomic_files import write_atomically
    from tf_dcnv2.training import RunFolder
    from tf_dcnv2_cli.report_page import report_page

    folder = RunFolder(arguments.run_path)
    if not folder.holds_a_run():
        raise FileNotFoundError(f"{folder} holds no training run: there is no config.yaml in it.")
    analysis = Path(arguments.analysis or folder.path / "analysis")
    if arguments.analysis and not (analysis / "analysis.json").exists():
        raise FileNotFoundError(f"{analysis} holds no analysis: there is no analysis.json in it.")
    output = Path(arguments.output or folder.path / "report.html")
    _check_output(output)
    write_atomically(output, report_page(folder, analysis))
    log("page", os.fspath(output))


def _check_output(path: Path) -> None:
    from tf_dcnv2._core.output_files import ensure_writable, refuse_foreign
    from tf_dcnv2.visualization.html import is_page_of

    refuse_foreign(path, is_page_of(path, GENERATOR), "an earlier page of report")
    ensure_writable(path)

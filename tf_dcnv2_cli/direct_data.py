"""Annotations and a folder of images where a command takes records: converted once, and kept for the next time.

The records lie beside the run or the page, so that whoever deletes that knows what else to delete. Converting is what
every check of the data belongs to, and a resumed run needs the same order of images from the first step on: reading the
files themselves in training would have to repeat both.
"""

import argparse
import os
import zlib
from pathlib import Path

from tf_dcnv2_cli.console import log, progress_bar
from tf_dcnv2_cli.errors import UsageError
from tf_dcnv2_cli.findings import show_findings


def add_images_of(parser: argparse.ArgumentParser | argparse._ArgumentGroup, name: str, of: str) -> None:
    """Adds the option `name` for the folder of images that makes annotations of what the option `of` names."""
    parser.add_argument(
        name, metavar="DIR", help=f"folder of images; {of} is then an annotation file instead of records"
    )


def records_of(data: str, images_dir: str | None, beside: str, option: str) -> str:
    """The records to use: `data` itself, or those that are made of the annotations `data` and a folder of images.

    Args:
        data: records, or annotations as `tf-dcnv2 convert` takes them.
        images_dir: folder of images; None if `data` are records.
        beside: folder of the run, or another output without its extension; the records are put into `<beside>.records`.
        option: that names the folder, for messages.

    Raises:
        UsageError: the annotations are given without a folder of images.
    """
    if images_dir is None:
        _refuse_annotations(data, option)
        return data
    from tf_dcnv2.data import convert_coco

    # The same annotations have the same records for training and evaluation.
    places = "\n".join(map(os.path.abspath, (data, images_dir)))
    name = f"{Path(data).stem}-{zlib.crc32(os.fsencode(places)):08x}"
    prefix = os.path.join(f"{os.path.normpath(beside)}.records", name)
    with progress_bar("convert") as progress:
        report = convert_coco(images_dir, data, prefix, jobs=os.cpu_count() or 1, reuse=True, progress=progress)
    log("records", f"{prefix} of {data}")
    show_findings(report.skipped, report.repaired, report.warnings, report.report_path)
    return prefix


def _refuse_annotations(data: str, option: str) -> None:
    from tf_dcnv2.data.records.files import is_sidecar

    if data.endswith((".json", ".yaml", ".yml")) and os.path.isfile(data) and not is_sidecar(data):
        raise UsageError(f"{data} is an annotation file, no set of records: give the folder of its images by {option}")

"""Shows what a data set's reader left out or repaired: a few items on the terminal, the rest in a file."""

from collections.abc import Sequence

from tf_dcnv2_cli.console import log

SHOWN_ITEMS = 10


def show_skipped(items: Sequence[object], report_path: str | None) -> None:
    """Prints the first of `items`, and where all of them are listed."""
    for item in items[:SHOWN_ITEMS]:
        log("skipped", item)
    if len(items) > SHOWN_ITEMS:
        log("skipped", f"... and {len(items) - SHOWN_ITEMS} more")
    if items and report_path:
        log("report", f"{report_path} lists everything that was skipped or repaired")


def show_findings(skipped: Sequence, repaired: Sequence, warnings: Sequence[str], report_path: str | None) -> None:
    """Prints warnings, one line for each kind of repair, and skipped items."""
    from tf_dcnv2.data.findings import count_repairs

    for message in warnings:
        log("warning", message)
    for line in count_repairs(repaired):
        log("repaired", line)
    show_skipped(skipped, report_path)
    if repaired and not skipped and report_path:
        log("report", f"{report_path} lists everything that was repaired")

"""The files of a prediction. What was found is on the disk at once, whatever ends the command.

Every image's detections are appended to `detections.jsonl` as soon as they are known. When the command ends, also by an
error or by Ctrl-C, the files that were asked for are made of it. After a kill it is what remains.
"""

import errno
import json
import os
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

FORMATS = {"json": "detections.json", "jsonl": "detections.jsonl", "coco": "detections.coco.json"}
_REPORT = "detections.skipped.json"
_RESULT_FIELDS = ("category_id", "bbox", "score", "segmentation")


class PredictionResults:
    """The results of one prediction in a folder.

    Args:
        folder: where they are written.
        formats: which of `FORMATS` to leave there.
    """

    def __init__(self, folder: Path, formats: Sequence[str]):
        from tf_dcnv2.data.findings import Findings

        self.findings = Findings()
        self.images = self.objects = 0
        self.report_path = folder / _REPORT
        self._folder, self._formats = folder, formats
        self._journal: FileIO | None = None

    @property
    def paths(self) -> list[Path]:
        """The files that are left in the end."""
        return [self._folder / FORMATS[name] for name in self._formats]

    def check(self, inputs: Sequence[Path], pictures: Sequence[Path]) -> None:
        """Refuses to overwrite an input, or what no earlier prediction wrote, before anything is computed."""
        from tf_dcnv2._core.output_files import refuse_foreign, refuse_overwriting
        from tf_dcnv2.data.findings import refuse_foreign_report

        files = [*self.paths, self._journal_path]
        refuse_overwriting([*pictures, *files, self.report_path], inputs)
        refuse_foreign_report(self.report_path)
        for path in files:
            refuse_foreign(path, path.is_file() and _starts_as_ours(path), "of an earlier prediction")

    def add(self, entry: dict[str, Any]) -> None:
        """Appends the detections of an image; the first of a prediction replaces what an earlier one left.

        Raises:
            OSError: the line cannot be written; those before it stay.
        """
        line = json.dumps(entry).encode() + b"\n"
        journal = self._opened()
        if journal.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._journal_path))
        self.images += 1
        self.objects += len(entry["detections"])

    def finish(self) -> None:
        """Writes what was asked for, whatever there is by now; without any image nothing is touched."""
        from tf_dcnv2._core.atomic_files import atomic_file
        from tf_dcnv2.data.findings import write_report

        if not (self.images or self.findings.skipped):
            return
        write_report(self.report_path, self.findings)
        self._opened().close()
        for name in set(self._formats) - {"jsonl"}:
            with open(self._journal_path, "rb") as lines, atomic_file(self._folder / FORMATS[name]) as file:
                file.write(b"[")
                for number, text in enumerate(_items(lines, name)):
                    file.write((b"," if number else b"") + text.encode())
                file.write(b"]")
        if "jsonl" not in self._formats:
            self._journal_path.unlink()

    @property
    def _journal_path(self) -> Path:
        return self._folder / FORMATS["jsonl"]

    def _opened(self) -> FileIO:
        if self._journal is None:
            # Not buffered: a line is in the file when `add` returns.
            self._journal = open(self._journal_path, "wb", buffering=0)  # noqa: SIM115
        return self._journal


def _items(lines: BinaryIO, name: str) -> Iterator[str]:
    """The entries of a file's list: images, or for COCO detections."""
    for line in lines:
        if not line.endswith(b"\n"):  # the disk was full
            return
        entry = json.loads(line)
        if name == "json":
            yield "\n" + json.dumps(entry, indent=1)
            continue
        for found in entry["detections"]:
            yield json.dumps(
                {"image_id": entry["image_id"], **{key: found[key] for key in _RESULT_FIELDS if key in found}}
            )


def _starts_as_ours(path: Path) -> bool:
    with open(path, "rb") as file:
        start = b"".join(file.read(200).split())
    return start in (b"", b"[]") or start.startswith((b'[{"file_name":', b'{"file_name":', b'[{"image_id":'))

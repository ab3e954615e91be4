"""Records what a data set's reader had to leave out or to repair, so that nothing is lost without a report."""

import collections
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tf_dcnv2._core.atomic_files import write_atomically
from tf_dcnv2._core.output_files import refuse_foreign

REPORT_FORMAT = "tf_dcnv2.findings/1"
_LONGEST_VALUE = 80


@dataclasses.dataclass(frozen=True)
class Finding:
    """One image or annotation, and what was wrong with it.

    Attributes:
        kind: "image", "annotation", "category" or "file".
        item_id: its id, as the file gives it.
        reason: what is wrong, or for a repair what was done. Repairs of the same reason are counted together.
        detail: what this one item had; may be empty.
        file: the image file that the item belongs to, as the annotations name it; empty if that is not known.
    """

    kind: str
    item_id: Any
    reason: str
    detail: str = ""
    file: str = ""

    def __str__(self) -> str:
        name = self.item_id if self.kind == "file" else shorten(self.item_id)
        text = f"{self.kind} {name}: {self.reason}{self.detail and f' ({self.detail})'}"
        return text if self.file in text else f"{text} ({self.file})"


@dataclasses.dataclass
class Findings:
    """What was found in one data set.

    Attributes:
        skipped: items left out.
        repaired: items that were used, but not as they stand in the file.
        warnings: sentences about the data set as a whole.
    """

    skipped: list[Finding] = dataclasses.field(default_factory=list)
    repaired: list[Finding] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def skip(self, kind: str, item_id: Any, reason: str, *, file: str = "") -> None:
        """Records an item that is left out."""
        self.skipped.append(Finding(kind, item_id, reason, file=file))

    def repair(self, kind: str, item_id: Any, reason: str, detail: str = "", *, file: str = "") -> None:
        """Records an item that is used in another form than the file's."""
        self.repaired.append(Finding(kind, item_id, reason, detail, file))

    def about(self, kind: str, item_id: Any, file: str = "") -> "ItemFindings":
        """Where to record what is found of one item."""
        return ItemFindings(self, kind, item_id, file)

    def warn(self, message: str) -> None:
        """Records something about the whole data set."""
        self.warnings.append(message)

    def to_json(self) -> dict[str, Any]:
        """All findings as plain JSON."""
        return {
            "warnings": list(self.warnings),
            "skipped": [_as_json(item) for item in self.skipped],
            "repaired": [_as_json(item) for item in self.repaired],
        }

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> "Findings":
        """The findings of which `to_json` made the content."""
        skipped, repaired = ([_of_json(item) for item in content[name]] for name in ("skipped", "repaired"))
        return cls(skipped, repaired, list(map(str, content["warnings"])))

    def extend(self, other: "Findings") -> None:
        """Adds all findings of `other`."""
        self.skipped.extend(other.skipped)
        self.repaired.extend(other.repaired)
        self.warnings.extend(other.warnings)


@dataclasses.dataclass(frozen=True)
class ItemFindings:
    """What is found of one item of a data set; see `Findings.about`."""

    findings: Findings
    kind: str
    item_id: Any
    file: str = ""

    def skip(self, reason: str) -> None:
        """Records that the item is left out."""
        self.findings.skip(self.kind, self.item_id, reason, file=self.file)

    def repair(self, reason: str, detail: str = "") -> None:
        """Records that the item is used in another form than the file's."""
        self.findings.repair(self.kind, self.item_id, reason, detail, file=self.file)


def count_repairs(repaired: Iterable[Finding]) -> list[str]:
    """One sentence for each kind of repair, such as `8 annotations: ids given as text were read as numbers`."""
    counts = collections.Counter((item.kind, item.reason) for item in repaired)
    return [f"{count} {kind}{'s' if count > 1 else ''}: {reason}" for (kind, reason), count in counts.items()]


def write_report(path: str | os.PathLike, findings: Findings) -> bool:
    """Writes all findings as JSON, atomically; without a single item, removes an earlier report instead.

    Returns:
        Whether there is a report now.
    """
    if not (findings.skipped or findings.repaired):
        if os.path.exists(path):
            os.unlink(path)
        return False
    write_atomically(path, json.dumps({"format": REPORT_FORMAT, **findings.to_json()}, indent=1))
    return True


def read_report(path: str | os.PathLike) -> Findings:
    """What `write_report` wrote; nothing if there is no report.

    Raises:
        ValueError: the file is something else, or damaged.
    """
    if not os.path.exists(path):
        return Findings()
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != REPORT_FORMAT:
            raise KeyError(content["format"])
        return Findings.of_json(content)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{os.fspath(path)} is no report of a conversion. Convert the data set again.") from error


def refuse_foreign_report(path: str | os.PathLike) -> None:
    """Checks that `write_report` would replace or remove nothing but a report.

    Raises:
        FileExistsError: there is something else at `path`.
    """
    refuse_foreign(path, _is_report(path), "an earlier report")


def shorten(value: Any) -> str:
    """Returns `repr(value)`, cut in the middle where it is long."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} of too many levels"
    if len(text) <= _LONGEST_VALUE:
        return text
    half = (_LONGEST_VALUE - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def _is_report(path: str | os.PathLike) -> bool:
    try:
        with open(path, "rb") as file:
            return b"tf_dcnv2.findings/" in file.read(64)
    except OSError:
        return False


def _of_json(item: Mapping[str, Any]) -> Finding:
    return Finding(item["kind"], item["id"], item["reason"], item.get("detail", ""), item.get("file", ""))


def _as_json(item: Finding) -> dict[str, Any]:
    plain = isinstance(item.item_id, str | int | float | None)
    fields = {"kind": item.kind, "id": item.item_id if plain else shorten(item.item_id), "reason": item.reason}
    optional = {"detail": item.detail, "file": item.file}
    return fields | {name: value for name, value in optional.items() if value}

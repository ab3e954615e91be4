"""What a reader of a layout gives to the checks of COCO annotations."""

import dataclasses
from typing import Any

from tf_dcnv2.data.findings import Findings


@dataclasses.dataclass
class Contents:
    """The lists of a COCO file, and what could not be put into them.

    Images are numbered from 1 in the order of their labels' names. An annotation's id says where it is:
    `"a.txt line 3"`.
    """

    images: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    annotations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    categories: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    findings: Findings = dataclasses.field(default_factory=Findings)

    def add_image(self, file_name: str, **size: int) -> int:
        """Adds an image and returns its id."""
        self.images.append({"id": len(self.images) + 1, "file_name": file_name, **size})
        return len(self.images)

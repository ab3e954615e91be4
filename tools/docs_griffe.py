"""An extension of Griffe, which reads the docstrings for the API reference."""

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Takes a docstring's "Example:" for the section that Griffe only knows as "Examples:"."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)

"""The `tf-dcnv2` commands in the documentation parse."""

import re
import shlex

import pytest

import tf_dcnv2_cli as cli
from tests.docs.test_pages import CODE_BLOCK, PAGES, ROOT

# What stands for arguments that a page leaves out.
LEFT_OUT = {"...", "…"}


def commands_on(page: str) -> list[str]:
    """The commands in blocks of code and in the text; of the latter those with arguments."""
    text = (ROOT / page).read_text()
    blocks = "\n".join(block.group() for block in CODE_BLOCK.finditer(text)).replace("\\\n", " ")
    found = [line.strip().removeprefix("$ ") for line in blocks.splitlines()]
    found = [line for line in found if line.startswith(("tf-dcnv2 ", "python -m tf_dcnv2 "))]
    return found + re.findall(r"`(tf-dcnv2 \w[^`\n]* [^`\n]*)`", CODE_BLOCK.sub("", text))


COMMANDS = sorted({(page, command) for page in PAGES for command in commands_on(page)})


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_in_the_documentation_parse(page, command, capsys):
    arguments = shlex.split(command.removeprefix("python -m ").partition(" ")[2], comments=True)
    is_whole = not LEFT_OUT & set(arguments)
    arguments = [argument for argument in arguments if argument not in LEFT_OUT]
    try:
        cli._parser().parse_args(arguments)
    except SystemExit as exit:
        error = capsys.readouterr().err
        left_out = not is_whole and "the following arguments are required" in error
        assert exit.code == 0 or left_out, f"{page}: {command}\n{error}"


def test_the_commands_of_every_kind_of_page_are_found():
    """Guards the test above against patterns that find nothing."""
    found = {page for page, _ in COMMANDS}
    assert {"README.md", "docs/tutorial.md", "docs/training.md", "docs/export.md", "docs/presets.md"} <= found
    assert ("docs/training.md", "tf-dcnv2 train --resume --output runs/coco") in COMMANDS

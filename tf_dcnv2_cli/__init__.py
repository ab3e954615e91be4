"""The command line `tf-dcnv2`: one module per sub-command, this one parses, runs and reports errors.

A command module has `SUMMARY` (one line), `DESCRIPTION`, `EXAMPLES`, `add_arguments(parser)` and `run(arguments)`.
Inside `run` it imports `tf_dcnv2`, whose TensorFlow takes seconds to import, and whatever else is heavy, so that help
and mistakes are answered at once. For the same reason this package stands beside `tf_dcnv2` and not in it.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import argparse
import importlib
import keyword
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NoReturn

from tf_dcnv2_cli.console import lasting_output
from tf_dcnv2_cli.errors import describe

_COMMANDS = (
    "demo",
    "presets",
    "convert",
    "inspect-data",
    "train",
    "evaluate",
    "report",
    "predict",
    "visualize",
    "import",
    "export",
    "benchmark",
    "doctor",
)

_DESCRIPTION = (
    "Deformable ConvNets v2 object detectors for TensorFlow: convert, train, evaluate, predict, visualize, export."
)

_EPILOG = """\
a first detector, from COCO-style annotations to a SavedModel:
  tf-dcnv2 convert --images train/ --annotations train.json --output records/train
  tf-dcnv2 convert --images val/ --annotations val.json --output records/val
  tf-dcnv2 train --preset faster_rcnn_small_dcnv2 --train records/train --val records/val --output runs/first
  tf-dcnv2 evaluate runs/first --records records/val
  tf-dcnv2 export runs/first --output exported/first

`tf-dcnv2 COMMAND --help` explains a command. Exit status: 0 done, 1 failed, 2 what was given cannot be used
(arguments, files, folders, a full disk), 130 interrupted."""

# Errors about what a command was given, whose message says what to do.
_MENDABLE = (ValueError, OSError, ImportError)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments without the program's name; those of the process when None.

    Returns:
        The exit status 0, 1, 2 or 130. Like every argparse program it raises `SystemExit` itself for `--help` (0) and
        for arguments that do not parse (2).
    """
    with lasting_output():
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    # On import TensorFlow prints a dozen lines about its build and about GPUs it does not find, which are no news to
    # the user of a command. Errors that matter come as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding does not have
    try:
        return arguments.run(arguments) or 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"tf-dcnv2 {arguments.command}: error: {describe(error)}", file=sys.stderr)
        return 2 if isinstance(error, _MENDABLE) else 1


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help explains)\n")


class _PrintVersion(argparse.Action):
    """`--version`, which looks into the installation only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(f"tf-dcnv2 {metadata.version('tf-dcnv2')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tf-dcnv2",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_PrintVersion, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in _COMMANDS:
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}{'_' * keyword.iskeyword(name)}")
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", default=False, help="show the traceback of an error")
        command.set_defaults(run=module.run)
    return parser

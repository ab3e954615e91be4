"""Command lines of the benchmarks."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Keeps the line breaks of its description, and reports a mistake in one line instead of a page of usage."""

    def __init__(self, **settings: str):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help explains)\n")


def positive_int(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received: {text}")
    return value

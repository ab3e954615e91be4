"""What every command prints: labelled lines on standard output, progress bars on standard error."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_LABEL_WIDTH = 10


def log(topic: str, text: Any = "") -> None:
    """Prints one line of a command's report, such as `data       205 images, 2804 boxes`."""
    start = label(topic)
    if sys.stdout.isatty():
        start = f"\033[1m{start}\033[0m"
    print(f"{start} {text}".rstrip(), flush=True)


def label(topic: str) -> str:
    """The topic, padded so that what follows stands in one column."""
    return f"{topic:<{_LABEL_WIDTH}}"


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Lets what runs inside the block go on when the reader of its output goes away, as `head` does.

    What it prints from then on is dropped.
    """
    stream = sys.stdout
    sys.stdout = _LastingOutput(stream)
    try:
        yield
    finally:
        sys.stdout.flush()  # otherwise the interpreter does so when it ends, and complains
        sys.stdout = stream


class _LastingOutput:
    """A text stream that drops what cannot be written because nobody reads the pipe any more."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes as the stream does."""
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered."""
        with self._dropping():
            self._stream.flush()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose first column is text and whose others are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def precision_text(value: float) -> str:
    """An average precision; COCO's -1, where there is nothing to measure, is a dash."""
    return f"{value:.3f}" if value >= 0 else "    -"


@contextlib.contextmanager
def progress_bar(topic: str, unit: str = "img") -> Iterator[Callable[[int, int | None], None]]:
    """A bar for work that reports itself as `progress(done, total)`, as conversion and evaluation do.

    The total is None where it is not known.

    It disappears when the work is done: the command's report tells the result. Nothing is drawn when standard error is
    not a terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn(label(topic)),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn(f"{{task.fields[rate]}} {unit}/s"),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(topic, total=None, rate="-")

        def progress(done: int, total: int | None) -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:.1f}" if speed else "-")

        yield progress

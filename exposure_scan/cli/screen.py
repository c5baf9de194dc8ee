"""The only ways out to a terminal. What goes through them may quote anybody: it is made safe here.

Results go to standard output, messages and the log to standard error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_PROGRAM = "exposure-scan"
_CELL = 400  # characters


def say(*lines: str) -> None:
    """Print lines of a result."""
    from exposure_scan.model.text import line_text

    for line in lines:
        typer.echo(line_text(line))


def complain(*sentences: str) -> None:
    """Print messages on standard error, with the program's name."""
    from exposure_scan.model.text import line_text

    for sentence in sentences:
        typer.echo(f"{_PROGRAM}: {line_text(sentence)}", err=True)


def write(document: str | bytes) -> None:
    """Print a document that is safe by its own form: JSON, HTML, CSV and so on. Nothing is added to it."""
    typer.echo(document, nl=False)


def show(*parts: RenderableType) -> None:
    """Print what rich draws; a text that is a mere string is no markup."""
    screen = console()
    for part in parts:
        screen.print(_line(part) if isinstance(part, str) else part)


def table(headings: Iterable[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> Table:
    """A table of texts, none of which is markup.

    Args:
        headings: of the columns.
        rows: their cells.
        numbers: the columns that stand at the right.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from exposure_scan.model.text import terminal_text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    right = set(numbers)
    for number, heading in enumerate(headings):
        drawn.add_column(heading, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(terminal_text(cell, _CELL)) for cell in row))
    return drawn


def console(*, stderr: bool = False) -> Console:
    """Standard output, or standard error, as a terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def start_log() -> None:
    """Send the log, from warnings on, to standard error. There is no other handler."""
    handler = logging.StreamHandler()
    handler.setFormatter(SafeLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


class SafeLines(logging.Formatter):
    """A record as one line with the program's name; each line of a traceback behind it begins with it, too.

    Whatever a library or a peer has put into a message or an exception: it begins no line and colours none.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines, without the last one's end."""
        from exposure_scan.model.text import log_text

        lines = [f"{_PROGRAM}: {log_text(record.getMessage())}"]
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if record.stack_info:
            trace += f"\n{record.stack_info}"
        lines += [f"{_PROGRAM}: | {_indented(line)}" for line in trace.splitlines() if line.strip()]
        return "\n".join(lines)


def _indented(line: str) -> str:
    from exposure_scan.model.text import log_text

    return " " * min(len(line) - len(line.lstrip(" ")), 8) + log_text(line)


def _line(text: str) -> RenderableType:
    from rich.text import Text

    from exposure_scan.model.text import line_text

    return Text(line_text(text))

"""What all commands share: the exit codes, the terminal, the bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from exposure_scan import sweep

GO, NO_GO, WRONG_USE, INCONCLUSIVE, FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130


def console(*, stderr: bool = False) -> Console:
    """Standard output, or standard error, as a terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


@contextmanager
def progress(*, silent: bool = False) -> Iterator[sweep.Notice]:
    """A live bar on standard error while a scan runs, where that is a terminal."""
    screen = console(stderr=True)
    if silent or not screen.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def notice(now: sweep.Progress) -> None:
            if now.site not in tasks:
                tasks[now.site] = bar.add_task(now.site, total=now.of)
            bar.update(tasks[now.site], completed=now.done)

        yield notice

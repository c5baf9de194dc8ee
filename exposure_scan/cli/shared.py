"""What all commands share: the exit codes, the files that they read, the bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .screen import console

if TYPE_CHECKING:
    from exposure_scan import classify, scope, sweep

GO, NO_GO, WRONG_USE, INCONCLUSIVE, FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130
_NAME = 60  # characters of a site's name beside the bar


class DeviceWord(StrEnum):
    """The words of --device and --class."""

    SERVER = "server"
    HANDSET = "handset"
    PX = "px"


Packs = Annotated[
    Path | None,
    typer.Option(
        envvar="EXPOSURE_SCAN_PACKS",
        help="Folder of fingerprint packs; by default packs in the user's data folder.",
        metavar="DIR",
    ),
]
Templates = Annotated[
    Path | None,
    typer.Option(help="Folder of templates that are taken before the product's own.", metavar="DIR"),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="EXPOSURE_SCAN_DB",
        help="The history, as a URL of SQLAlchemy; by default a file in the user's state folder.",
        metavar="URL",
    ),
]


def sites_file(path: Path) -> scope.SitesFile:
    """The sites file, judged.

    Raises:
        Problem: every mistake in it.
    """
    from exposure_scan import assess, scope

    return scope.read_sites_file(path, practices=frozenset(practice.id for practice in assess.practices()))


def known(packs: Path | None) -> classify.Known:
    """The fingerprints to go by: the scanner's own and those of the folder.

    Raises:
        Problem: the folder that was asked for is not there, or a pack in it is damaged.
    """
    from exposure_scan import classify
    from exposure_scan.model import Problem

    if packs is not None and not packs.is_dir():
        raise Problem(f"There is no folder {packs}; --packs names the folder that holds fingerprint packs.")
    return classify.read_packs(packs or classify.default_folder())


@contextmanager
def progress(*, silent: bool = False) -> Iterator[sweep.Notice]:
    """A live bar on standard error while a scan runs, where that is a terminal."""
    screen = console(stderr=True)
    if silent or not screen.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from exposure_scan.model.text import terminal_text

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def notice(now: sweep.Progress) -> None:
            if now.site not in tasks:
                tasks[now.site] = bar.add_task(terminal_text(now.site, _NAME), total=now.of)
            bar.update(tasks[now.site], completed=now.done)

        yield notice

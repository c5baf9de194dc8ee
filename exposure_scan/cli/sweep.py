"""The commands of the scheduled sweep: all sites that are due, and the lines that make a system start it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .screen import complain, console, say, write
from .shared import FAILED, GO, INCONCLUSIVE, NO_GO, Database, Packs, known, sites_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from exposure_scan import deliver, scope
    from exposure_scan.history.store import Store
    from exposure_scan.sweep import letters, nightly


class Attach(StrEnum):
    """What goes with a mail."""

    HTML = "html"
    PDF = "pdf"
    BOTH = "both"
    NONE = "none"


def sweep_command(
    sites: Annotated[Path, typer.Option("--sites", help="The sites file (TOML).", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="Folder for the reports, one folder a site.", metavar="DIR")] = Path(
        "exposure-reports"
    ),
    db: Database = None,
    everything: Annotated[bool, typer.Option("--all", help="Scan every site, due or not.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and sweep whenever a site is due.")] = False,
    mail: Annotated[bool, typer.Option("--mail/--no-mail", help="Mail the reports, as the sites file says.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the mail as .eml files to DIR/outbox, and send none.")
    ] = False,
    attach: Annotated[Attach, typer.Option(help="What goes with a mail.")] = Attach.HTML,
    stop_file: Annotated[
        Path | None, typer.Option(help="As soon as this file is there, nothing more is sent.", metavar="FILE")
    ] = None,
    rate: Annotated[
        int, typer.Option(min=10, max=100_000, help="Packets a second to all sites together.", metavar="N")
    ] = 2000,
    packs: Packs = None,
) -> None:
    """Scan every site that is due, keep what was found, and mail each customer what concerns it."""
    import asyncio

    from exposure_scan import files, sweep, vantage
    from exposure_scan.history.store import default_url, open_store
    from exposure_scan.sweep import fleet, nightly, outgoing, waiting
    from exposure_scan.sweep.vantage import looking_from

    read = sites_file(sites)
    files.make_folder(out, "choose another with --out")
    files.check_writable(out / "index.html")
    fingerprints = known(packs)
    url = db or default_url()
    with nightly.only_one(url), open_store(url) as store:
        while True:
            server = outgoing.server(read) if mail and not dry_run and read.mail else None  # before a packet is sent
            settings = nightly.Settings(
                out=out,
                everything=everything,
                stop_file=stop_file,
                post=_post(read, attach) if mail or dry_run else None,
                packets_per_second=rate,
                known=fingerprints,
            )
            orders = [looking_from(order, vantage.stored_path(), sweep.now()) for order in read.orders]
            with _bar() as told:
                found = asyncio.run(nightly.sweep(orders, store, settings, told=told))
            fleet.write(out, read, store, sweep.now())
            _print(found, out)
            if dry_run and read.mail:
                _write_mail(store, out / "outbox")
            elif server is not None and not found.stopped:
                _send_mail(store, server, stop_file)
            if not watch or found.stopped or waiting.stop_wanted(stop_file):
                raise typer.Exit(_code(found))
            waiting.until_due(read.orders, store, stop_file)
            read = _again(sites, read)


def _post(read: scope.SitesFile, attach: Attach) -> letters.Post | None:
    """How mail is written; None where the sites file names no mail server."""
    from exposure_scan.model import Problem
    from exposure_scan.sweep import letters

    if not read.mail:
        return None
    sender = read.mail.get("sender") or read.partner.get("mail")
    if not sender:
        raise Problem(f"{read.path}: nobody is named who the mail is from; set mail.sender or partner.mail.")
    if attach in (Attach.PDF, Attach.BOTH):
        from exposure_scan import report

        report.check_pdf()
    return letters.Post(sender, read.partner.get("name", ""), attach.value)


def _write_mail(store: Store, folder: Path) -> None:
    from exposure_scan.sweep import now, outgoing

    names = outgoing.write_eml(store.outbox.due(now()), folder)
    say(f"{len(names)} mail(s) written to {folder}; none was sent.")


def _send_mail(store: Store, server: deliver.Server, stop_file: Path | None) -> None:
    """Hand over what waits, and say what became of it."""
    from exposure_scan.sweep import outgoing, waiting

    sent = outgoing.send_mail(store, server, stop=lambda: waiting.stop_wanted(stop_file))
    parts = [f"{sent.sent} mail(s) sent"] + ([f"{sent.later} to be tried again"] if sent.later else [])
    say(", ".join(parts) + ".")
    complain(*(f"refused: {who}" for who in sent.refused))
    complain(*(f"nobody knows whether this arrived, and it is not sent again: {who}" for who in sent.unknown))
    if sent.stopped:
        complain("stopped by the stop file; the mail that is left waits.")
    if sent.problem:
        complain(f"the mail server cannot be used: {sent.problem}")
    else:
        complain(*(f"to be tried again: {who}" for who in sent.waiting))


def _again(path: Path, before: scope.SitesFile) -> scope.SitesFile:
    """The sites file as it is now; the last good one where it has a mistake."""
    from exposure_scan.model import Problem

    try:
        return sites_file(path)
    except Problem as problem:
        complain(*problem.sentences, "the sites file as it was before is used until this is mended.")
        return before


def _print(found: nightly.Sweep, out: Path) -> None:
    from exposure_scan.model.text import terminal_text

    if found.continued:
        say("This went on with a sweep that had been stopped.")
    for one in sorted(found.ended, key=lambda one: one.site):
        if one.verdict is None:
            complain(terminal_text(f"{one.site}: not scanned: {one.why}", 300))
    numbers = ", ".join(f"{number} {word}" for word, number in found.numbers().items())
    say(f"{len(found.ended)} site(s) done: {numbers}." if found.ended else "No site was due.")
    if found.stopped:
        complain("stopped by the stop file; the next sweep goes on with what is left.")
    say(f"Reports: {out / 'index.html'}")


def _code(found: nightly.Sweep) -> int:
    """The worst of the sites, in the order 4, 1, 3, 0."""
    from exposure_scan.model import Verdict

    codes = {Verdict.GO: GO, Verdict.NO_GO: NO_GO, Verdict.INCONCLUSIVE: INCONCLUSIVE, None: FAILED}
    worst = (FAILED, NO_GO, INCONCLUSIVE, GO)
    return min((codes[one.verdict] for one in found.ended), key=worst.index, default=GO)


@contextmanager
def _bar() -> Iterator[Callable[[nightly.Ended, int, int], None]]:
    """A live bar on standard error with sites a minute and the time left, where that is a terminal."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda _, __, ___: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed * 60:.0f} sites/min" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=screen, transient=True) as bar:
        task = bar.add_task("sweep", total=None)

        def told(_: nightly.Ended, done: int, of: int) -> None:
            bar.update(task, total=of, completed=done)

        yield told


class System(StrEnum):
    """What can start a sweep."""

    SYSTEMD = "systemd"
    CRON = "cron"


def schedule_command(
    sites: Annotated[Path, typer.Option("--sites", help="The sites file (TOML).", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="Folder for the reports.", metavar="DIR")] = Path("exposure-reports"),
    system: Annotated[System, typer.Option("--for", help="What is to start the sweep.")] = System.SYSTEMD,
) -> None:
    """Print the lines that make this machine sweep what is due, and when each site is due next."""
    import shlex

    from exposure_scan import sweep
    from exposure_scan.sweep import due

    read = sites_file(sites)
    program = Path(sys.argv[0]).resolve()
    command = shlex.join([str(program), "sweep", "--sites", str(sites.resolve()), "--out", str(out.resolve())])
    write((due.cron_line(command) if system is System.CRON else due.systemd_units(command)) + "\n")
    for order in read.orders:
        when = due.next_due([order], sweep.now())
        told = f"{when:%Y-%m-%d %H:%M %Z}" if when else "never: it has no schedule"
        say(f"# {order.site.name}: {told}")

"""The commands on the history: a site's scans, what the last one changed, and what is too old to keep."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .screen import complain, say, show, table
from .shared import FAILED, Database

if TYPE_CHECKING:
    from exposure_scan.model import Past, Scan, Site

_DEFAULT = "scans"  # never typed: whatever is no command of the group is a site's name


class _SiteOrCommand(TyperGroup):
    """A group whose first word is one of its commands, or else a site; `--` before it makes it a site."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front of a site's name."""
        if args and args[0] not in ("prune", *ctx.help_option_names):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


class _Scans(TyperCommand):
    """The default command. It is not typed, so its usage does not name it."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write the line as it is typed."""
        formatter.write_usage(ctx.parent.command_path, " ".join(self.collect_usage_pieces(ctx)))


history_app = typer.Typer(
    cls=_SiteOrCommand,
    no_args_is_help=True,
    rich_markup_mode=None,
    subcommand_metavar="SITE | prune",
    help="List the scans of a site that were kept, the newest first; or `prune` what is too old. "
    "A site that is called prune is written after two hyphens: `history -- prune`.",
    epilog="Example: exposure-scan history exposed-server",
)


def add_history(app: typer.Typer) -> None:
    """Add `history`, `history prune` and `changes` to the command line."""
    app.add_typer(history_app, name="history")
    app.command("changes", epilog="Example: exposure-scan changes exposed-server")(changes)


_Site = Annotated[str, typer.Argument(metavar="SITE", help="The site's name, as the sites file has it.")]


@history_app.command(_DEFAULT, cls=_Scans, hidden=True, epilog="Example: exposure-scan history exposed-server")
def scans(site: _Site, db: Database = None) -> None:
    """List the scans of a site that were kept, the newest first."""
    from exposure_scan.history.store import open_store
    from exposure_scan.model.text import terminal_text

    with open_store(db) as store:
        kept = store.scans_of(site)
    rows = [
        (
            _moment(one.started),
            one.verdict.upper(),
            str(one.not_met),
            str(one.cannot_tell),
            str(one.undeclared),
            str(one.open),
            one.folder or "",
        )
        for one in kept
    ]
    headings = ("When (UTC)", "Verdict", "Not met", "Cannot tell", "Undeclared", "Open", "Folder")
    show(f"{terminal_text(site)}: {_count(len(kept), 'scan')}, the newest first")
    show(table(headings, rows, numbers=range(2, 6)))


def changes(site: _Site, db: Database = None) -> None:
    """Show what the last scan of a site changed against those before it."""
    from exposure_scan import history, report
    from exposure_scan.history.store import open_store

    with open_store(db) as store:
        kept = store.scans_of(site, most=2)
        documents = [report.load_scan(store.document(one.scan)) for one in kept]
        earlier = store.looks(site)
    scan = documents[0]
    past = history.past(scan, earlier)
    _say_changes(scan, past, documents[1].site if len(documents) > 1 else None)


def _say_changes(scan: Scan, past: Past, before: Site | None) -> None:
    from exposure_scan.model.text import terminal_text

    show(f"{terminal_text(scan.site.name)}: the scan of {_moment(scan.started)} UTC, {scan.verdict.upper()}")
    if past.last is None or past.was is None or before is None:
        show("It is the first scan of this site that is known. There is nothing to hold it against.")
        return
    show(f"Held against that of {_moment(past.last)} UTC, {past.was.upper()}.")
    about = [*_targets(scan.site, before), *_addresses(past), *_doors(past)]
    rows = _rows(scan, past)
    if rows:
        show("", table(("Change", "Practice", "Address", "Before", "Now", "First seen", "Age"), rows))
    if about:
        show("", *about)
    if not rows and not about:
        show("Nothing changed, and no practice is broken.")


def _rows(scan: Scan, past: Past) -> list[tuple[str, ...]]:
    from exposure_scan.model import Turn
    from exposure_scan.model.text import terminal_text
    from exposure_scan.report.words import STATUSES, TURNS

    order = list(TURNS)
    return [
        (
            TURNS[change.turn].word,
            terminal_text(change.practice),
            terminal_text(change.host),
            STATUSES[change.was].word if change.was else "Not judged",
            STATUSES[change.now].word,
            f"{change.since.astimezone(UTC):%Y-%m-%d}",
            _count((scan.started - change.since).days, "day") if change.turn is Turn.STILL else "",
        )
        for change in sorted(past.changes, key=lambda change: order.index(change.turn))
    ]


def _targets(now: Site, before: Site) -> Iterable[str]:
    """What the operator changed of the site's targets: another scan then, whatever was found."""
    for word, these, those in (("added", now, before), ("removed", before, now)):
        if names := [target for target in these.targets if target not in those.targets]:
            yield f"Targets {word} by the operator: {_listed(names)}."


def _addresses(past: Past) -> Iterable[str]:
    if past.came:
        yield f"Addresses scanned now and not the last time: {_listed(past.came)}. They are new, not changed."
    if past.went:
        yield f"Addresses scanned the last time and not now: {_listed(past.went)}. Nothing is known of them now."


def _doors(past: Past) -> Iterable[str]:
    for doors in past.doors:
        for word, ports in (("Opened", doors.opened), ("Shut", doors.shut)):
            if ports:
                yield f"{word} at {_listed([doors.host])}: {_listed(ports)}."


@history_app.command("prune", epilog="Example: exposure-scan history prune --older-than 365")
def prune(
    older_than: Annotated[
        int, typer.Option("--older-than", min=1, max=36500, help="Remove what is older than this.", metavar="DAYS")
    ],
    db: Database = None,
) -> None:
    """Remove scans that are older than DAYS, and their files; the last scan of each site stays.

    A file is removed only where the history knows its name and its SHA-256 and no scan that stays names it.
    When a breach was first seen is remembered.
    """
    from exposure_scan import sweep
    from exposure_scan.history import store as histories
    from exposure_scan.sweep import nightly

    url = db or histories.default_url()
    with nightly.only_one(url), histories.open_store(url) as store:
        done = store.prune(sweep.now() - timedelta(days=older_than))
    say(f"Removed: {_count(done.scans, 'scan')} and {_count(len(done.files), 'file')}.")
    for path in done.left:
        complain(f"{path} cannot be removed; its scans are kept until it can be.")
    if done.left:
        raise typer.Exit(FAILED)


def _listed(names: Iterable[str]) -> str:
    from exposure_scan.model.text import terminal_text

    return ", ".join(terminal_text(name) for name in names)


def _moment(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")

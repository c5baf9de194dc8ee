"""The partner's page of all sites, and the same as CSV, from the history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from exposure_scan import assess, evidence, files, report, scope
from exposure_scan.history.states import State
from exposure_scan.history.store import Store
from exposure_scan.model import SOON_DAYS, Expiry, Fleet, FleetRow, Site, Turns
from exposure_scan.model.text import file_name

INDEX, TABLE = "index.html", "fleet.csv"


def write(out: Path, read: scope.SitesFile, store: Store, at: datetime) -> None:
    """Write index.html and fleet.csv, each whole or not at all.

    Raises:
        Problem: a file cannot be written.
    """
    fleet = Fleet(at=at, rows=_rows(read, store, at, out), partner=read.partner)
    files.write_file(out / INDEX, report.render_fleet(fleet))
    files.write_file(out / TABLE, "".join(report.fleet_csv_rows(_rows(read, store, at, out))))


def _rows(read: scope.SitesFile, store: Store, at: datetime, out: Path) -> Iterator[FleetRow]:
    """The sites of the file, made one after the other; what the history knows of others is left out."""
    orders = {order.site.name: order for order in read.orders}
    titles = {practice.id: practice.title for practice in assess.practices()}
    failed = store.failures()
    for state in store.states():
        if order := orders.pop(state.name, None):
            yield _row(order, state, failed, titles, at, out)
    for order in orders.values():
        yield _row(order, None, failed, titles, at, out)


def _row(
    order: scope.Order,
    state: State | None,
    failed: Mapping[str, tuple[int, str]],
    titles: Mapping[str, str],
    at: datetime,
    out: Path,
) -> FleetRow:
    site = order.site
    failures, why = failed.get(site.name, (0, ""))
    last = state.points[-1] if state is not None else None
    if last is None and not failures:
        why = "It was never due."
    folder = file_name(site.name)
    return FleetRow(
        name=site.name,
        folder=folder if last is not None and (out / folder / evidence.REPORT).is_file() else "",
        addresses=site.targets,
        scanned=last.at if last else None,
        verdict=last.verdict if last and not failures else None,
        why=why,
        failures=failures,
        was=state.was if state else None,
        not_met=last.not_met if last else 0,
        cannot_tell=last.cannot_tell if last else 0,
        undeclared=last.undeclared if last else 0,
        open=last.open if last else 0,
        turns=state.turns if state else Turns(),
        oldest_days=max((at - state.oldest).days, 0) if state and state.oldest else None,
        expiring=tuple(_expiring(site, titles, at)),
        vantage=order.vantage,
        points=state.points if state else (),
    )


def _expiring(site: Site, titles: Mapping[str, str], at: datetime) -> Iterator[Expiry]:
    """The words that have ended or end soon."""
    for id_, word in site.declares.items():
        if word.until is not None and (word.until - at.date()).days <= SOON_DAYS:
            yield Expiry("declaration", titles.get(id_, id_), word.by, word.until)
    for waiver in site.waivers:
        if (waiver.until - at.date()).days <= SOON_DAYS:
            yield Expiry("waiver", titles.get(waiver.practice, waiver.practice), waiver.by, waiver.until)

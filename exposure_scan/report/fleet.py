"""The partner's page of all sites, what needs work first.

The rows are read once. The page keeps those that matter most and counts the rest, so that its size and the
memory that it takes do not grow with the fleet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from exposure_scan.model import Point, Status, Turn, Verdict
from exposure_scan.model.fleet import SOON_DAYS, Expiry, Fleet, FleetRow
from exposure_scan.model.text import within

from . import words
from .brand import Brand, partner_brand
from .tally import MOST_PORTS, NOT_SCANNED, TURNS, VERDICTS, Kind, Place, Tally, changed, site_link, site_name
from .templates import render_template
from .view import Count
from .words import Mark

MOST_ROWS = 500  # of the page
_MOST_ADDRESSES = 2
_MOST_EXPIRING = 3  # of one site
_MOST_POINTS = 12
_MOST_VANTAGES = 20
_HEIGHT = 18  # of the trend's highest bar, in its own units
_LEAST_FULL = 4  # practices not met that make a bar of full height, so that one does not look like ten


# --- what the page shows --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trend:
    """A small drawing of the last scans: paths of SVG, filled bars and hollow ones (of inconclusive scans)."""

    told: str
    width: int
    full: str
    hollow: str


@dataclass(frozen=True, slots=True)
class RowView:
    """One site. `link` is empty where it has no report."""

    name: str
    link: str
    addresses: str
    more_addresses: int
    mark: Mark
    told: str  # what stands under the verdict
    turns: tuple[Count, ...]
    counts: tuple[Count, ...]  # not met and cannot tell, where there are any
    quiet: str  # the other numbers
    stale: bool  # the numbers are of a scan before the last attempt
    age: str
    expiring: tuple[str, ...]
    more_expiring: int
    scanned: str
    trend: Trend | None


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of work: a sentence without its end, and the worst of the sites that it is about."""

    mark: Mark
    says: str
    sites: tuple[tuple[str, str], ...]  # name, link
    more: int


@dataclass(frozen=True, slots=True)
class Group:
    """Sites under one heading; `number` counts those left out too."""

    key: str
    title: str
    number: int
    rows: tuple[RowView, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """The sites of the page in another order, each with what it is ordered by."""

    key: str
    label: str
    title: str
    column: str
    rows: tuple[tuple[RowView, str], ...]
    without: int  # sites of the page of which it says nothing


@dataclass(frozen=True, slots=True)
class VantageView:
    """A network that looked, and what is known of it."""

    name: str
    sites: int
    lines: tuple[tuple[Mark, str], ...]


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything the page shows."""

    brand: Brand
    partner: str
    when: str
    sites: int
    verdicts: tuple[Count, ...]
    span: str
    turns: tuple[Count, ...]
    work: tuple[Work, ...]
    groups: tuple[Group, ...]
    orders: tuple[Order, ...]
    left_out: int
    vantages: tuple[VantageView, ...]
    more_vantages: int


# --- the page -------------------------------------------------------------------------------------


def render_fleet(fleet: Fleet, templates: Path | None = None) -> str:
    """The page of all sites: self-contained, without script or external request; at most `MOST_ROWS` in full.

    Args:
        fleet: the sites; its rows are read once.
        templates: a folder whose files are taken before the product's own of the same name.

    Raises:
        Problem: a template of `templates` is wrong.
    """
    return render_template("fleet.html.j2", templates, fleet=fleet_view(fleet))


def fleet_view(fleet: Fleet) -> FleetView:
    """What the page shows of a fleet."""
    on = words.utc(fleet.at).date()
    tally = Tally(on)
    pairs = [(row, _row(row, on)) for row in tally.worst(fleet.rows, MOST_ROWS)]
    sites = tally.verdicts.total()
    places = sorted(tally.vantages.items(), key=lambda pair: -pair[1].sites)
    groups = (
        Group("changed", "New or changed", tally.changed, tuple(view for row, view in pairs if changed(row))),
        Group("others", "As before", sites - tally.changed, tuple(view for row, view in pairs if not changed(row))),
    )
    return FleetView(
        brand=partner_brand(fleet.partner),
        partner=fleet.partner.get("name", ""),
        when=words.moment(fleet.at),
        sites=sites,
        verdicts=tuple(Count(mark, tally.verdicts[verdict]) for verdict, mark in VERDICTS.items()),
        span=_span(tally.first, tally.last),
        turns=tuple(Count(words.TURNS[turn], tally.turns[turn]) for turn in TURNS),
        work=tuple(_work(tally)),
        groups=tuple(group for group in groups if group.number),
        orders=tuple(_orders(pairs)),
        left_out=sites - len(pairs),
        vantages=tuple(_vantage(name, place) for name, place in places[:_MOST_VANTAGES]),
        more_vantages=max(len(places) - _MOST_VANTAGES, 0),
    )


def _span(first: datetime | None, last: datetime | None) -> str:
    if first is None or last is None:
        return "No site was scanned yet."
    if first == last:
        return f"The last scan began on {words.moment(first)}."
    return f"The last scans of the sites began between {words.moment(first)} and {words.moment(last)}."


# --- what needs work ------------------------------------------------------------------------------

_DOUBTED = "in doubt now: what the scan before saw, this one did not settle"
_UNSURE = "INCONCLUSIVE, which is no all-clear"
_SOON = f"within {SOON_DAYS} days"


def _work(tally: Tally) -> Iterator[Work]:
    """What needs work, in the order in which it does."""
    more = "more " if tally.broke.number else ""
    days, name = tally.oldest
    oldest = f"; the oldest open breach of all is {_days(days)} old, at {name}" if days else ""
    breaches = words.count(tally.broke.pieces, "breach", "breaches")
    now = "that the scan before did not show"
    lines: tuple[tuple[Mark, Kind, str, str], ...] = (
        (words.TURNS[Turn.NEW], tally.broke, f"site shows {breaches} {now}", f"sites show {breaches} {now}"),
        (NOT_SCANNED, tally.failed, "site could not be scanned", "sites could not be scanned"),
        (words.TURNS[Turn.UNSEEN], tally.doubted, f"site is {_DOUBTED}", f"sites are {_DOUBTED}"),
        (VERDICTS[Verdict.NO_GO], tally.no_go, f"{more}site is NO-GO{oldest}", f"{more}sites are NO-GO{oldest}"),
        (VERDICTS[Verdict.INCONCLUSIVE], tally.unsure, f"site is {_UNSURE}", f"sites are {_UNSURE}"),
    )
    for mark, kind, one, many in lines:
        if kind.number:
            yield _one_work(mark, kind, words.count(kind.number, one, many))
    for mark, kind, tense in (
        (words.STATUSES[Status.UNDECLARED], tally.ended, ("has ended", "have ended")),
        (words.STATUSES[Status.DECLARED], tally.soon, (f"ends {_SOON}", f"end {_SOON}")),
    ):
        if kind.number:
            what = words.count(kind.pieces, f"declaration or waiver {tense[0]}", f"declarations and waivers {tense[1]}")
            yield _one_work(mark, kind, f"{what}, at {words.count(kind.number, 'site', 'sites')}")


def _one_work(mark: Mark, kind: Kind, says: str) -> Work:
    sites = tuple((name, link) for _, name, link in kind.worst)
    return Work(mark, says, sites, kind.number - len(sites))


def _days(days: int) -> str:
    return words.count(days, "day", "days")


# --- one site -------------------------------------------------------------------------------------


def _row(row: FleetRow, on: date) -> RowView:
    known, never = row.verdict is not None, row.scanned is None
    turned = ((words.TURNS[turn], getattr(row.turns, turn)) for turn in TURNS)
    seen = ((words.STATUSES[Status.NOT_MET], row.not_met), (words.STATUSES[Status.CANNOT_TELL], row.cannot_tell))
    coming = sorted(row.expiring, key=lambda one: one.until)
    return RowView(
        name=site_name(row),
        link=site_link(row),
        addresses=", ".join(within(address, 45) or "?" for address in row.addresses[:_MOST_ADDRESSES]),
        more_addresses=max(len(row.addresses) - _MOST_ADDRESSES, 0),
        mark=VERDICTS[row.verdict],
        told=_told(row),
        turns=tuple(Count(mark, number) for mark, number in turned if number and known),
        counts=tuple(Count(mark, number) for mark, number in seen if number and not never),
        quiet="" if never else f"{row.undeclared:,} undeclared, {words.count(row.open, 'open port', 'open ports')}",
        stale=not known and not never,
        age="" if row.oldest_days is None else _days(row.oldest_days) if row.oldest_days > 0 else "today",
        expiring=tuple(_expiry(one, on) for one in coming[:_MOST_EXPIRING]),
        more_expiring=max(len(coming) - _MOST_EXPIRING, 0),
        scanned="" if row.scanned is None else words.moment(row.scanned),
        trend=_trend(row.points[-_MOST_POINTS:]),
    )


def _told(row: FleetRow) -> str:
    """What stands under the verdict: what it was, or why there is none."""
    was = None if row.was is None else words.VERDICTS[row.was].word
    if row.verdict is not None:
        return "first scan" if was is None else "" if row.was is row.verdict else f"was {was}"
    before = "never scanned" if was is None else f"{was} before"
    often = f"{row.failures:,} attempts in a row" if row.failures > 1 else ""
    return "; ".join(part for part in (within(row.why, 200).rstrip("."), often, before) if part)


def _expiry(one: Expiry, on: date) -> str:
    days = (one.until - on).days
    when = f"ended {_days(-days)} ago" if days < 0 else "ends today" if days == 0 else f"ends in {_days(days)}"
    return f"{one.kind.capitalize()} {when}: {within(one.title, 100)} ({within(one.by, 60)})"


def _trend(points: Sequence[Point]) -> Trend | None:
    """A bar for each scan, the oldest at the left; hollow where the scan is inconclusive and may have missed some."""
    if len(points) < 2:
        return None
    most = max(_LEAST_FULL, *(point.not_met for point in points))
    full, hollow, told = [], [], []
    for number, point in enumerate(points):
        height = max(round(_HEIGHT * point.not_met / most), 1)
        if point.verdict is Verdict.INCONCLUSIVE:
            height = max(height, 4)
            hollow.append(f"M{8 * number + 2} 21.5v-{height}h4v{height}z")
            told.append(f"{point.not_met} (inconclusive)")
        else:
            full.append(f"M{8 * number + 1} 22v-{height}h6v{height}z")
            told.append(str(point.not_met))
    said = f"Practices not met at the last {len(points)} scans, the oldest first: {', '.join(told)}"
    return Trend(said, 8 * len(points), "".join(full), "".join(hollow))


# --- other orders ---------------------------------------------------------------------------------


def _orders(pairs: Sequence[tuple[FleetRow, RowView]]) -> Iterator[Order]:
    """The same sites in other orders; equal ones stand as on the page."""

    def order(key: str, label: str, title: str, column: str, rows: Iterable[tuple[RowView, str]]) -> Order:
        found = tuple(rows)
        return Order(key, label, title, column, found, len(pairs) - len(found))

    numbers = ((view, ", ".join(f"{one.number} {one.mark.word.lower()}" for one in view.counts)) for _, view in pairs)
    named = sorted(((view, told or "none not met") for view, told in numbers), key=lambda pair: pair[0].name.casefold())
    yield order("name", "By name", "By name", "Practices", named)
    broken = sorted(
        ((row.oldest_days, view) for row, view in pairs if row.oldest_days is not None), key=lambda p: -p[0]
    )
    title = "The oldest open breach first"
    yield order("age", "Oldest breach", title, "Oldest breach", ((view, view.age) for _, view in broken))
    ends = ((min(one.until for one in row.expiring), view) for row, view in pairs if row.expiring)
    ending = ((view, f"{words.date_text(end)}. {_next_end(view)}") for end, view in sorted(ends, key=lambda p: p[0]))
    yield order("end", "Next to end", "What ended or ends next first", "Declaration or waiver", ending)
    never = datetime.min.replace(tzinfo=UTC)
    scanned = sorted(pairs, key=lambda pair: words.utc(pair[0].scanned) if pair[0].scanned else never)
    title = "The longest ago scanned first"
    yield order("scan", "Last scan", title, "Last scan", ((view, view.scanned or "never") for _, view in scanned))


def _next_end(view: RowView) -> str:
    more = len(view.expiring) - 1 + view.more_expiring
    return f"{view.expiring[0]}{f'; and {more} more' if more else ''}"


# --- the vantage ----------------------------------------------------------------------------------


def _vantage(name: str, place: Place) -> VantageView:
    good, doubt = words.VERDICTS[Verdict.GO], words.VERDICTS[Verdict.INCONCLUSIVE]
    lines: list[tuple[Mark, str]] = []
    if place.unchecked < place.sites:
        if place.first is None or place.last is None:
            when = ""
        elif place.first.date() == place.last.date():
            when = f" on {words.day(place.last)}"
        else:
            when = f" between {words.day(place.first)} and {words.day(place.last)}"
        lines.append((good, f"Checked{when}."))
    if place.unchecked:
        sites = words.count(place.unchecked, "site", "sites")
        lines.append((doubt, f"Nobody had checked it when {sites} of {place.sites:,} were scanned from it."))
    if place.inside:
        sites = words.count(place.inside, "site was", "sites were")
        lines.append((doubt, f"{sites} scanned inside the site's own network: no outside view."))
    if place.blind:
        lines.append((doubt, f"Not reachable from it: {_ports(place.blind)}. Of these nothing is known at any site."))
    if place.forged:
        lines.append(
            (doubt, f"Somebody else answers on: {_ports(place.forged)}. Of these nothing is known at any site.")
        )
    return VantageView(name or "no name", place.sites, tuple(lines))


def _ports(counter: Counter[str]) -> str:
    listed = ", ".join(within(port, 20) for port in list(counter)[:MOST_PORTS])
    return listed + (" and more" if len(counter) > MOST_PORTS else "")

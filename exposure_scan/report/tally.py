"""The sites of a fleet counted and put in order while they go by, each held no longer than it must."""

from __future__ import annotations

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import quote

from exposure_scan.model import Turn, Vantage, Verdict
from exposure_scan.model.fleet import FleetRow
from exposure_scan.model.text import html_text, within

from . import words
from .words import Mark

_MOST_NAMES = 6  # of the sites with one kind of work
MOST_PORTS = 20  # of a vantage's blind ones

NOT_SCANNED = Mark("circle", "○", "NOT SCANNED", "unsure", "The last attempt gave no scan: nothing new is known of it.")
# The worst first. What could not be scanned may be as bad as what was seen broken, which is certain.
VERDICTS: Mapping[Verdict | None, Mark] = MappingProxyType(
    {
        Verdict.NO_GO: words.VERDICTS[Verdict.NO_GO],
        None: NOT_SCANNED,
        Verdict.INCONCLUSIVE: words.VERDICTS[Verdict.INCONCLUSIVE],
        Verdict.GO: words.VERDICTS[Verdict.GO],
    }
)
_RANKS = {verdict: rank for rank, verdict in enumerate(VERDICTS)}
TURNS = (Turn.NEW, Turn.BACK, Turn.UNSEEN, Turn.FIXED, Turn.STILL)

Key: TypeAlias = tuple[bool, int, int, int, int, int, int, int, str, int]


@dataclass(slots=True)
class Kind:
    """Sites with one kind of work: how many, with how many pieces of it, and the worst sites."""

    number: int = 0
    pieces: int = 0
    worst: list[tuple[Key, str, str]] = field(default_factory=list)  # with name and link

    def add(self, key: Key, row: FleetRow, pieces: int = 1) -> None:
        """Count a site."""
        self.number += 1
        self.pieces += pieces
        if len(self.worst) < _MOST_NAMES or key < self.worst[-1][0]:
            insort(self.worst, (key, site_name(row), site_link(row)))
            del self.worst[_MOST_NAMES:]


@dataclass(slots=True)
class Place:
    """What the scans from one vantage say of it."""

    sites: int = 0
    unchecked: int = 0
    inside: int = 0
    first: datetime | None = None  # of the checks
    last: datetime | None = None
    blind: Counter[str] = field(default_factory=Counter)
    forged: Counter[str] = field(default_factory=Counter)

    def add(self, vantage: Vantage) -> None:
        """Count a scan."""
        self.sites += 1
        self.unchecked += not vantage.checked
        self.inside += not vantage.outside
        if vantage.checked and vantage.on is not None:
            on = words.utc(vantage.on)
            self.first, self.last = min(on, self.first or on), max(on, self.last or on)
        for ports, counter in ((vantage.blind, self.blind), (vantage.forged, self.forged)):
            for port in ports[: MOST_PORTS + 1]:
                if port in counter or len(counter) <= MOST_PORTS:
                    counter[port] += 1


@dataclass(slots=True)
class Tally:
    """What is counted of every site, shown or not; of the kinds of work `ended` and `soon` go beside the others."""

    on: date
    verdicts: Counter[Verdict | None] = field(default_factory=Counter)
    turns: Counter[Turn] = field(default_factory=Counter)
    changed: int = 0
    first: datetime | None = None  # of the last scans' beginnings
    last: datetime | None = None
    oldest: tuple[int, str] = (0, "")  # days of the oldest open breach, and the site
    broke: Kind = field(default_factory=Kind)
    failed: Kind = field(default_factory=Kind)
    doubted: Kind = field(default_factory=Kind)
    no_go: Kind = field(default_factory=Kind)
    unsure: Kind = field(default_factory=Kind)
    ended: Kind = field(default_factory=Kind)
    soon: Kind = field(default_factory=Kind)
    vantages: dict[str, Place] = field(default_factory=dict)

    def worst(self, rows: Iterable[FleetRow], most: int) -> list[FleetRow]:
        """The `most` sites that matter most, in order; every row is counted and, beyond them, let go."""
        # The key ends in a number that no two share, so that rows are never compared.
        return [row for _, row in heapq.nsmallest(most, self._counted(rows))]

    def _counted(self, rows: Iterable[FleetRow]) -> Iterator[tuple[Key, FleetRow]]:
        for number, row in enumerate(rows):
            key = _key(row, self.on, number)
            self._add(row, key)
            yield key, row

    def _add(self, row: FleetRow, key: Key) -> None:
        self.verdicts[row.verdict] += 1
        self.changed += changed(row)
        if row.scanned is not None:
            at = words.utc(row.scanned)
            self.first, self.last = min(at, self.first or at), max(at, self.last or at)
        if row.oldest_days is not None and row.oldest_days > self.oldest[0]:
            self.oldest = (row.oldest_days, site_name(row))
        if row.verdict is not None:
            for turn in TURNS:
                self.turns[turn] += getattr(row.turns, turn)
        self._add_work(row, key)
        if row.vantage is not None:
            self.vantages.setdefault(within(row.vantage.name), Place()).add(row.vantage)

    def _add_work(self, row: FleetRow, key: Key) -> None:
        if row.verdict is None:
            self.failed.add(key, row)
        elif row.turns.new or row.turns.back:
            self.broke.add(key, row, row.turns.new + row.turns.back)
        elif row.verdict is Verdict.NO_GO:
            self.no_go.add(key, row)
        elif row.turns.unseen or (row.verdict is Verdict.INCONCLUSIVE and row.was is Verdict.GO):
            self.doubted.add(key, row)
        elif row.verdict is Verdict.INCONCLUSIVE:
            self.unsure.add(key, row)
        if row.expiring:
            over = _ended(row, self.on)
            if over:
                self.ended.add(key, row, over)
            if len(row.expiring) > over:
                self.soon.add(key, row, len(row.expiring) - over)


def changed(row: FleetRow) -> bool:
    """Whether the last scan or attempt found a site otherwise than the one before it, or is its first."""
    if row.verdict is None:
        return row.failures <= 1
    turns = row.turns
    return row.was is not row.verdict or bool(turns.new or turns.back or turns.unseen or turns.fixed)


def _key(row: FleetRow, on: date, number: int) -> Key:
    """What changed first, then the worst first; at last by name and by the order in which the rows came."""
    known = row.verdict is not None  # else the numbers are of an older scan
    return (
        not changed(row),
        _RANKS[row.verdict],
        -(row.turns.new + row.turns.back) if known else 0,
        -row.turns.unseen if known else 0,
        -row.not_met,
        -(row.oldest_days or 0),
        -_ended(row, on) if row.expiring else 0,
        -row.cannot_tell,
        row.name[:100].casefold(),
        number,
    )


def _ended(row: FleetRow, on: date) -> int:
    return sum(one.until < on for one in row.expiring)


def site_name(row: FleetRow) -> str:
    """The site's name as it is shown, never empty."""
    return html_text(row.name, 80) or html_text(row.folder, 80) or "unnamed site"


def site_link(row: FleetRow) -> str:
    """The site's report, relative to the page; empty where there is none."""
    if row.folder in ("", ".", ".."):  # no site's folder has such a name
        return ""
    return f"{quote(row.folder, safe='', errors='replace')}/report.html"

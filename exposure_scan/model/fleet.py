"""All sites of a partner at a glance: one row a site, as the last sweep left it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from .past import Change, Point, Turn
from .site import Vantage
from .words import Seen, Verdict

SOON_DAYS = 30  # a declaration or waiver that ends within so many days is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """How many practices turned how at the last scan, held against the scan before it."""

    new: int = 0
    back: int = 0
    unseen: int = 0
    fixed: int = 0
    still: int = 0

    @classmethod
    def of(cls, changes: Iterable[Change]) -> Turns:
        """The numbers of the changes of `Past`."""
        found = Counter(change.turn for change in changes)
        return cls(
            new=found[Turn.NEW],
            back=found[Turn.BACK],
            unseen=found[Turn.UNSEEN],
            fixed=found[Turn.FIXED],
            still=found[Turn.STILL],
        )


@dataclass(frozen=True, slots=True)
class Expiry:
    """A declaration or a waiver that has ended or ends within `SOON_DAYS`; its last day is `until`."""

    kind: Literal["declaration", "waiver"]
    title: str  # of the practice
    by: str
    until: date


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """One site. Where the last attempt gave no scan, the numbers are those of the scan before it, if there is one.

    `folder` holds its report.html, relative to the page; empty where there is none. `verdict` is None where the
    last attempt gave no scan, and `why` says why; `failures` is the number of such attempts in a row. `was` is
    the verdict before; None where nothing was scanned before. `oldest_days` is the age of the oldest breach that
    is open. `points` are the last scans, the oldest first; they draw the trend and decide nothing.
    """

    name: str
    folder: str = ""
    addresses: tuple[str, ...] = ()
    scanned: Seen | None = None  # when the last scan began
    verdict: Verdict | None
    why: str = ""
    failures: int = 0
    was: Verdict | None = None
    not_met: int = 0
    cannot_tell: int = 0
    undeclared: int = 0
    open: int = 0  # ports
    turns: Turns = Turns()
    oldest_days: int | None = None
    expiring: tuple[Expiry, ...] = ()
    vantage: Vantage | None = None
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All sites. `rows` are read once and not kept, so that they may be made while they are read."""

    at: Seen
    rows: Iterable[FleetRow]
    partner: Mapping[str, str] = field(default_factory=dict)  # of the sites file: name, accent, logo

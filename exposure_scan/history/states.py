"""How every site stands, read in one pass over the history: memory does not grow with the number of sites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, func, select

from exposure_scan.model import Point, Status, Turn, Turns, Verdict

from .changes import turn_of
from .tables import COURSES, SCANS, SITES, TASKS

_DAYS = 31  # of scans that a trend may show
_MOST_POINTS = 12
_BATCH = 2_000  # rows fetched at once


@dataclass(frozen=True, slots=True)
class State:
    """A site as its last scans left it. `oldest` is since when its oldest open breach is known."""

    name: str
    points: tuple[Point, ...]  # the oldest first; the last one is the last scan
    folder: str | None
    was: Verdict | None
    turns: Turns
    oldest: datetime | None


def states(db: Connection) -> Iterator[State]:
    """Every site that was scanned, in the order in which the history came to know them."""
    last = select(SCANS.c.site, func.max(SCANS.c.started).label("started")).group_by(SCANS.c.site).subquery()
    scans = select(SCANS.c.site, SITES.c.name, SCANS.c.started, SCANS.c.verdict, SCANS.c.not_met, SCANS.c.cannot_tell)
    scans = scans.add_columns(SCANS.c.undeclared, SCANS.c.open, SCANS.c.folder, last.c.started.label("last"))
    scans = scans.join(SITES, SCANS.c.site == SITES.c.id).join(last, last.c.site == SCANS.c.site)
    scans = scans.order_by(SCANS.c.site, SCANS.c.started, SCANS.c.id)
    courses = select(COURSES.c.site, COURSES.c.practice, COURSES.c.host, COURSES.c.at, COURSES.c.status)
    courses = courses.order_by(COURSES.c.site, COURSES.c.practice, COURSES.c.host, COURSES.c.at, COURSES.c.id)
    turned = groupby(_streamed(db, courses), lambda row: row.site)
    site, rows = next(turned, (None, iter(())))
    for id_, members in groupby(_streamed(db, scans), lambda row: row.site):
        found = list(members)
        while site is not None and site < id_:
            site, rows = next(turned, (None, iter(())))
        turns, oldest = _turns(rows if site == id_ else iter(()), found[-1].started)
        recent = [row for row in found if row.started > row.last - timedelta(days=_DAYS)][-_MOST_POINTS:]
        yield State(
            name=found[-1].name,
            points=tuple(_point(row) for row in recent),
            folder=found[-1].folder,
            was=Verdict(found[-2].verdict) if len(found) > 1 else None,
            turns=turns if len(found) > 1 else Turns(),  # a first scan is held against nothing
            oldest=oldest,
        )


def failures(db: Connection) -> Mapping[str, tuple[int, str]]:
    """How often each site could not be scanned since its last scan, and why it could not the last time."""
    scanned = select(func.max(SCANS.c.started)).where(SCANS.c.site == TASKS.c.site).scalar_subquery()
    query = select(SITES.c.name, TASKS.c.failed).join(SITES, TASKS.c.site == SITES.c.id)
    query = query.where(TASKS.c.failed.is_not(None), (scanned.is_(None)) | (TASKS.c.done > scanned))
    found: dict[str, tuple[int, str]] = {}
    for name, why in db.execute(query.order_by(TASKS.c.done)):
        found[name] = (found.get(name, (0, ""))[0] + 1, why)
    return found


def _streamed(db: Connection, query: Any) -> Iterator[Any]:
    return iter(db.execute(query.execution_options(yield_per=_BATCH)))


def _turns(rows: Iterator[Any], last: datetime) -> tuple[Turns, datetime | None]:
    """How the practices turned at the last scan, and since when the oldest open breach is known."""
    numbers = dict.fromkeys(Turn, 0)
    oldest: datetime | None = None
    for _, members in groupby(rows, lambda row: (row.practice, row.host)):
        course = [(row.at, None if row.status is None else Status(row.status)) for row in members]
        now = course[-1][1]
        if now is None:
            continue  # that address or practice is not judged any more
        before = [status for at, status in course if at < last and status is not None]
        if (turn := turn_of(before, now)) is not None:
            numbers[turn] += 1
        if now is Status.NOT_MET:
            since = last
            for at, status in reversed(course):
                if status not in (Status.NOT_MET, Status.CANNOT_TELL):
                    break
                since = at if status is Status.NOT_MET else since
            oldest = since if oldest is None else min(oldest, since)
    known = (Turn.NEW, Turn.BACK, Turn.UNSEEN, Turn.FIXED, Turn.STILL)
    return Turns(**{turn.value: numbers[turn] for turn in known}), oldest


def _point(row: Any) -> Point:
    return Point(
        at=row.started,
        verdict=Verdict(row.verdict),
        not_met=row.not_met,
        cannot_tell=row.cannot_tell,
        undeclared=row.undeclared,
        open=row.open,
    )

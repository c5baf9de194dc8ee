"""What became of each practice on each host of a site, kept in few rows: where its status turned, and when.

It outlives the scans that are pruned, so that the age of a breach is known as long as the breach is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import groupby
from typing import TypeAlias

from sqlalchemy import Connection, delete, func, insert, select

from exposure_scan.model import Status

from .tables import COURSES, FINDINGS, SCANS

Key: TypeAlias = tuple[str, str]  # practice and host
Course: TypeAlias = list[tuple[datetime, Status | None]]

_PART = 500  # of a list in a query; databases differ in how many they take


def read(db: Connection, site: int, *, before: datetime | None = None) -> dict[Key, Course]:
    """The courses of a site, each with the oldest turn first."""
    found: dict[Key, Course] = {}
    query = select(COURSES.c.practice, COURSES.c.host, COURSES.c.at, COURSES.c.status).where(COURSES.c.site == site)
    if before is not None:
        query = query.where(COURSES.c.at < before)
    for practice, host, at, status in db.execute(query.order_by(COURSES.c.at, COURSES.c.id)):
        found.setdefault((practice, host), []).append((at, None if status is None else Status(status)))
    return found


def note(db: Connection, site: int, at: datetime, statuses: Mapping[Key, Status]) -> None:
    """Write down what a scan that began `at` found. Call it before the scan itself is kept.

    A scan older than others of its site is put between them: the one after it turns everything back.
    """
    courses = read(db, site)
    following = db.scalar(select(func.min(SCANS.c.started)).where(SCANS.c.site == site, SCANS.c.started > at))
    rows = []
    for key in dict.fromkeys((*courses, *statuses)):
        course, now = courses.get(key, []), statuses.get(key)
        was = next((status for since, status in reversed(course) if since <= at), None)
        if now is was:
            continue
        rows.append(_row(site, key, at, now))
        if following is not None and all(since != following for since, _ in course):
            rows.append(_row(site, key, following, was))
    if rows:
        db.execute(insert(COURSES), rows)


def fill(db: Connection) -> None:
    """Make the courses from the scans of a history that has none yet."""
    scans = select(SCANS.c.id, SCANS.c.site, SCANS.c.started).order_by(SCANS.c.site, SCANS.c.started, SCANS.c.id)
    for site, members in groupby(list(db.execute(scans)), lambda row: row.site):
        last: dict[Key, Status] = {}
        for row in members:
            query = select(FINDINGS.c.practice, FINDINGS.c.host, FINDINGS.c.status).where(FINDINGS.c.scan == row.id)
            now = {(practice, host): Status(status) for practice, host, status in db.execute(query)}
            turned = [key for key in dict.fromkeys((*last, *now)) if now.get(key) is not last.get(key)]
            if turned:
                db.execute(insert(COURSES), [_row(site, key, row.started, now.get(key)) for key in turned])
            last = now


def forget(db: Connection, before: datetime) -> None:
    """Remove what became of addresses and practices that were judged the last time before this time."""
    query = select(COURSES.c.id, COURSES.c.site, COURSES.c.practice, COURSES.c.host, COURSES.c.at, COURSES.c.status)
    order = (COURSES.c.site, COURSES.c.practice, COURSES.c.host, COURSES.c.at, COURSES.c.id)
    gone: list[int] = []
    for _, rows in groupby(db.execute(query.order_by(*order)), lambda row: (row.site, row.practice, row.host)):
        course = list(rows)
        if course[-1].status is None and course[-1].at < before:
            gone += [row.id for row in course]
    for part in parts(gone):
        db.execute(delete(COURSES).where(COURSES.c.id.in_(part)))


def parts(ids: list[int]) -> Iterable[list[int]]:
    """A long list in pieces that every database takes."""
    return (ids[start : start + _PART] for start in range(0, len(ids), _PART))


def _row(site: int, key: Key, at: datetime, status: Status | None) -> dict[str, object]:
    value = None if status is None else status.value
    return {"site": site, "practice": key[0], "host": key[1], "at": at, "status": value}

"""The view of a site in the course of time: what changed since the last scan, and the last scans side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from exposure_scan.model import Change, Past, Point, Scan, Turn

from . import words
from .words import Mark

_MOST_CHANGES = 12
_MOST_POINTS = 7  # a week of nights, and what a phone's screen shows readably
_MOST_DOORS = 12
_HEIGHT = 60  # of the chart's highest bar, in its own units


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One change. `hosts` is empty where the site has one address."""

    mark: Mark
    title: str
    hosts: tuple[str, ...]
    told: str


@dataclass(frozen=True, slots=True)
class PointRow:
    """One scan of the chart and of its table. `height` of its bar is in units of the drawing, at least 2."""

    when: str
    day: str
    mark: Mark
    not_met: int
    cannot_tell: int
    undeclared: int
    open: int
    height: int


@dataclass(frozen=True, slots=True)
class Course:
    """How the site stands against its earlier scans."""

    summary: str
    changes: tuple[ChangeRow, ...]
    more_changes: int
    lines: tuple[str, ...]  # doors and addresses
    points: tuple[PointRow, ...]  # the oldest first; fewer than two make no chart
    left_out: int  # earlier scans beyond those shown


def course(scan: Scan, past: Past) -> Course:
    """The view of `past`."""
    order = list(words.TURNS)
    rows = _rows(scan, past)
    rows.sort(key=lambda pair: order.index(pair[0]))
    points = past.points[-_MOST_POINTS:]
    most = max((point.not_met for point in points), default=0)
    return Course(
        summary=_summary(scan, past),
        changes=tuple(row for _, row in rows[:_MOST_CHANGES]),
        more_changes=max(len(rows) - _MOST_CHANGES, 0),
        lines=tuple(_lines(scan, past)),
        points=tuple(_point(point, most) for point in points),
        left_out=len(past.points) - len(points),
    )


def _summary(scan: Scan, past: Past) -> str:
    if past.last is None or past.was is None:
        return "This is the first scan of this site. There is nothing to hold it against."
    was, now = words.VERDICTS[past.was].word, words.VERDICTS[scan.verdict].word
    verdict = f"The verdict is still {now}." if was == now else f"The verdict was {was} and is now {now}."
    numbers = Counter(words.TURNS[turn].word.lower() for turn, _ in _rows(scan, past))
    told = ", ".join(f"{number} {word}" for word, number in numbers.items() if word != "other")
    compared = f"This scan is held against that of {words.moment(past.last)}."
    return (
        f"{compared} {verdict} Practices: {told}."
        if told
        else f"{compared} {verdict} No practice was broken or mended."
    )


def _rows(scan: Scan, past: Past) -> list[tuple[Turn, ChangeRow]]:
    """The changes; those of one practice that came to the same at several addresses in one row."""
    grouped: dict[tuple[object, ...], list[Change]] = {}
    for change in past.changes:
        grouped.setdefault((change.turn, change.practice, change.was, change.now, change.since), []).append(change)
    return [(members[0].turn, _row(members, scan)) for members in grouped.values()]


def _row(members: list[Change], scan: Scan) -> ChangeRow:
    first = members[0]
    was = words.STATUSES[first.was].word.lower() if first.was else "not judged"
    now = words.STATUSES[first.now].word.lower()
    told = {
        Turn.NEW: f"{was} before",
        Turn.BACK: f"{was} before, and not met at some earlier time",
        Turn.STILL: f"since {_since(first.since, scan.started)}",
        Turn.FIXED: f"now {now}",
        Turn.UNSEEN: f"now {now}",
        Turn.OTHER: f"{was}, now {now}",
    }[first.turn]
    hosts = tuple(change.host for change in members) if len(scan.hosts) > 1 else ()
    return ChangeRow(words.TURNS[first.turn], first.title, hosts, told)


def _since(when: datetime, now: datetime) -> str:
    return f"{words.day(when)} ({words.count(max((now - when).days, 0), 'day', 'days')})"


def _lines(scan: Scan, past: Past) -> Iterable[str]:
    for doors in past.doors:
        at = f" at {doors.host}" if len(scan.hosts) > 1 else ""
        if doors.opened:
            yield f"Open now and not at the last scan{at}: {_listed(doors.opened)}."
        if doors.shut:
            yield f"Open at the last scan and not now{at}: {_listed(doors.shut)}."
    if past.came:
        yield f"Scanned now and not the last time: {_listed(past.came)}."
    if past.went:
        yield f"Scanned the last time and not now: {_listed(past.went)}."


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_DOORS
    return ", ".join(names[:_MOST_DOORS]) + (f" and {more} more" if more > 0 else "")


def _point(point: Point, most: int) -> PointRow:
    return PointRow(
        when=words.moment(point.at),
        day=f"{words.utc(point.at):%d %b}".lstrip("0"),
        mark=words.VERDICTS[point.verdict],
        not_met=point.not_met,
        cannot_tell=point.cannot_tell,
        undeclared=point.undeclared,
        open=point.open,
        height=max(round(_HEIGHT * point.not_met / most), 2) if most else 2,
    )

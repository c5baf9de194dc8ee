"""What changed between scans of one site. Only what was judged and measured counts, never a banner's wording.

A nonce, a date or a tag differs from scan to scan without any change of the site, so texts are not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from exposure_scan.model import Change, Doors, Finding, Past, Point, PortState, Problem, Scan, Status, Turn, Verdict

_MENDED = frozenset({Status.MET, Status.DECLARED})
_SILENT = frozenset({PortState.CLOSED, PortState.FILTERED, PortState.OPEN_FILTERED})


@dataclass(frozen=True, slots=True)
class Look:
    """What one scan is compared by."""

    site: str
    at: datetime
    verdict: Verdict
    statuses: Mapping[tuple[str, str], Status]  # by practice and host
    doors: Mapping[str, Mapping[str, PortState]]  # by address, then by tcp/8080
    # What is still known of the scans before this one, where they are not at hand: the times at which a status
    # began, the oldest first; None where the practice was not judged on that host.
    earlier: Mapping[tuple[str, str], Sequence[tuple[datetime, Status | None]]] = field(default_factory=dict)

    @property
    def point(self) -> Point:
        """The scan as a point in the course of time."""
        statuses = list(self.statuses.values())
        return Point(
            at=self.at,
            verdict=self.verdict,
            not_met=statuses.count(Status.NOT_MET),
            cannot_tell=statuses.count(Status.CANNOT_TELL),
            undeclared=statuses.count(Status.UNDECLARED),
            open=sum(state is PortState.OPEN for doors in self.doors.values() for state in doors.values()),
        )


def look_of(scan: Scan) -> Look:
    """What a scan is compared by."""
    return Look(
        site=scan.site.name,
        at=scan.started,
        verdict=scan.verdict,
        statuses={(finding.practice, finding.host): finding.status for finding in scan.findings},
        doors={host.address: {port.key: port.state for port in host.ports} for host in scan.hosts},
    )


def past(scan: Scan, earlier: Iterable[Look]) -> Past:
    """How a scan stands against earlier ones of the same site, in whatever order they come.

    Raises:
        Problem: one is of another site.
    """
    before = sorted((one for one in earlier if one.at < scan.started), key=lambda one: one.at)
    for one in before:
        if one.site != scan.site.name:
            raise Problem(f"A scan of {one.site!r} says nothing about {scan.site.name!r}; give the same site's.")
    now = look_of(scan)
    points = tuple(one.point for one in (*before, now))
    if not before:
        return Past(points=points)
    last = before[-1]
    return Past(
        last=last.at,
        was=last.verdict,
        points=points,
        changes=tuple(change for finding in scan.findings if (change := _change(finding, scan.started, before))),
        doors=tuple(_doors(now, last)),
        came=tuple(address for address in now.doors if address not in last.doors),
        went=tuple(address for address in last.doors if address not in now.doors),
    )


def _change(finding: Finding, started: datetime, before: Sequence[Look]) -> Change | None:
    """What became of a practice on a host; None where it stands as it stood and is no breach."""
    key = (finding.practice, finding.host)
    course = [*before[0].earlier.get(key, ()), *((one.at, one.statuses.get(key)) for one in before)]
    was, now = course[-1][1], finding.status
    turn = turn_of([status for _, status in course if status is not None], now)
    if turn is None or (turn is Turn.OTHER and was is None):
        return None
    since = started
    for at, status in reversed(course):
        if status is Status.CANNOT_TELL and now is Status.NOT_MET:
            continue  # doubt mends nothing
        if status is not now:
            break
        since = at
    return Change(
        turn=turn,
        practice=finding.practice,
        host=finding.host,
        title=finding.title,
        severity=finding.severity,
        was=was,
        now=now,
        since=since,
    )


def turn_of(course: Sequence[Status], now: Status) -> Turn | None:
    """How a status stands against those before it, the oldest first; None where it is as it was and no breach."""
    told = [status for status in course if status is not Status.CANNOT_TELL]  # doubt neither mends nor breaks
    broken = bool(told) and told[-1] is Status.NOT_MET
    if now is Status.NOT_MET:
        if broken:
            return Turn.STILL
        return Turn.BACK if Status.NOT_MET in told else Turn.NEW
    if broken:
        return Turn.FIXED if now in _MENDED else Turn.UNSEEN
    return None if not course or course[-1] is now else Turn.OTHER


def _doors(now: Look, last: Look) -> Iterable[Doors]:
    for host, doors in now.doors.items():
        pairs = [(key, last.doors.get(host, {}).get(key), state) for key, state in doors.items()]
        opened = tuple(key for key, was, state in pairs if state is PortState.OPEN and was in _SILENT)
        shut = tuple(key for key, was, state in pairs if was is PortState.OPEN and state in _SILENT)
        if opened or shut:
            yield Doors(host=host, opened=opened, shut=shut)

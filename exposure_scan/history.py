"""What changed between scans of one site. Only what was judged and measured counts, never a banner's wording.

A nonce, a date or a tag differs from scan to scan without any change of the site, so texts are not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exposure_scan.model import Change, Doors, Finding, Past, Point, PortState, Problem, Scan, Status, Turn

_MENDED = frozenset({Status.MET, Status.DECLARED})
_SILENT = frozenset({PortState.CLOSED, PortState.FILTERED, PortState.OPEN_FILTERED})


def past(scan: Scan, earlier: Iterable[Scan]) -> Past:
    """How a scan stands against earlier ones of the same site, in whatever order they come.

    Raises:
        Problem: one is of another site.
    """
    before = sorted((one for one in earlier if one.started < scan.started), key=lambda one: one.started)
    for one in before:
        if one.site.name != scan.site.name:
            raise Problem(f"A scan of {one.site.name!r} says nothing about {scan.site.name!r}; give the same site's.")
    points = tuple(_point(one) for one in (*before, scan))
    if not before:
        return Past(points=points)
    last = before[-1]
    now_there = [host.address for host in scan.hosts]
    then_there = [host.address for host in last.hosts]
    return Past(
        last=last.started,
        was=last.verdict,
        points=points,
        changes=tuple(change for finding in scan.findings if (change := _change(finding, scan, before))),
        doors=tuple(_doors(scan, last)),
        came=tuple(address for address in now_there if address not in then_there),
        went=tuple(address for address in then_there if address not in now_there),
    )


def _point(scan: Scan) -> Point:
    statuses = [finding.status for finding in scan.findings]
    return Point(
        at=scan.started,
        verdict=scan.verdict,
        not_met=statuses.count(Status.NOT_MET),
        cannot_tell=statuses.count(Status.CANNOT_TELL),
        undeclared=statuses.count(Status.UNDECLARED),
        open=sum(port.state is PortState.OPEN for host in scan.hosts for port in host.ports),
    )


def _change(finding: Finding, scan: Scan, before: Sequence[Scan]) -> Change | None:
    """What became of a practice on a host; None where it stands as it stood and is no breach."""
    course = [(one.started, _status(one, finding)) for one in before]
    was, now = course[-1][1], finding.status
    turn = _turn([status for _, status in course if status is not None], now)
    if turn is None or (turn is Turn.OTHER and was is None):
        return None
    since = scan.started
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


def _turn(course: Sequence[Status], now: Status) -> Turn | None:
    told = [status for status in course if status is not Status.CANNOT_TELL]  # doubt neither mends nor breaks
    broken = bool(told) and told[-1] is Status.NOT_MET
    if now is Status.NOT_MET:
        if broken:
            return Turn.STILL
        return Turn.BACK if Status.NOT_MET in told else Turn.NEW
    if broken:
        return Turn.FIXED if now in _MENDED else Turn.UNSEEN
    return None if not course or course[-1] is now else Turn.OTHER


def _status(scan: Scan, finding: Finding) -> Status | None:
    return next(
        (one.status for one in scan.findings if (one.practice, one.host) == (finding.practice, finding.host)), None
    )


def _doors(scan: Scan, last: Scan) -> Iterable[Doors]:
    then = {host.address: {port.key: port.state for port in host.ports} for host in last.hosts}
    for host in scan.hosts:
        if host.address not in then:
            continue
        pairs = [(port.key, then[host.address].get(port.key), port.state) for port in host.ports]
        opened = tuple(key for key, was, now in pairs if now is PortState.OPEN and was in _SILENT)
        shut = tuple(key for key, was, now in pairs if was is PortState.OPEN and now in _SILENT)
        if opened or shut:
            yield Doors(host=host.address, opened=opened, shut=shut)

"""What earlier scans of a site say beside the present one: what changed, and since when."""

from __future__ import annotations

from enum import StrEnum

from .words import Frozen, Seen, Severity, Status, Verdict


class Turn(StrEnum):
    """How a finding stands against the scans before."""

    NEW = "new"  # broken now, and never before
    BACK = "back"  # broken now, settled before, and broken before that
    STILL = "still"  # broken now and at the last look
    FIXED = "fixed"  # broken before, and seen or declared to be mended
    UNSEEN = "unseen"  # broken before, and neither seen now nor settled
    OTHER = "other"  # another status that is no breach on either side


class Change(Frozen):
    """One practice on one host, now and before. `since` is the first scan in a row that found it so."""

    turn: Turn
    practice: str
    host: str
    title: str
    severity: Severity
    was: Status | None  # None: that host or practice was not judged before
    now: Status
    since: Seen


class Doors(Frozen):
    """Ports of a host that stand otherwise than at the last look, each measured both times."""

    host: str
    opened: tuple[str, ...] = ()  # tcp/8080, in the order of asking
    shut: tuple[str, ...] = ()


class Point(Frozen):
    """One scan in the course of time."""

    at: Seen
    verdict: Verdict
    not_met: int
    cannot_tell: int
    undeclared: int
    open: int  # ports found open


class Past(Frozen):
    """A scan against those before it.

    Without an earlier scan `last` is None, `points` holds the scan alone, and nothing counts as a change.
    """

    last: Seen | None = None  # when the scan that it is held against began
    was: Verdict | None = None
    points: tuple[Point, ...] = ()  # the oldest first, the present one last
    changes: tuple[Change, ...] = ()
    doors: tuple[Doors, ...] = ()
    came: tuple[str, ...] = ()  # addresses that the last scan did not have
    went: tuple[str, ...] = ()  # addresses that this one does not have

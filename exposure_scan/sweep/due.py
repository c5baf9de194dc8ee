"""When sites are due: their cron lines, and the same as lines for cron and units for systemd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from exposure_scan import scope

if TYPE_CHECKING:
    from apscheduler.triggers.combining import OrTrigger
    from apscheduler.triggers.cron import CronTrigger

# Of each field of a cron line: its lowest and highest number, and the names that stand for numbers (crontab(5)).
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = ((0, 59, ()), (0, 23, ()), (1, 31, ()), (1, 12, _MONTHS), (0, 7, _DAYS))


def trigger(schedule: str) -> CronTrigger | OrTrigger:
    """The cron line of a site, times in the machine's own zone.

    As cron has it: where both the day of the month and the day of the week are given, either is enough.
    """
    from apscheduler.triggers.combining import OrTrigger
    from apscheduler.triggers.cron import CronTrigger

    fields = schedule.split()
    minute, hour, day, month, weekday = (
        None if field == "*" else _numbers(field, *about) for field, about in zip(fields, _FIELDS, strict=True)
    )
    names = None if weekday is None else ",".join(dict.fromkeys(_DAYS[number % 7] for number in weekday))
    common = {"minute": _listed(minute), "hour": _listed(hour), "month": _listed(month)}
    if day is not None and names is not None:
        return OrTrigger([CronTrigger(**common, day=_listed(day)), CronTrigger(**common, day_of_week=names)])
    return CronTrigger(**common, day=_listed(day), day_of_week=names or "*")


def _numbers(field: str, low: int, high: int, names: Sequence[str]) -> list[int]:
    """The numbers that a field of a cron line stands for; the line was judged when the sites file was read."""
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        if span == "*":
            first, last = low, high
        else:
            ends = [names.index(word) + low if word in names else int(word) for word in span.split("-")]
            first, last = ends[0], high if slash and len(ends) == 1 else ends[-1]
        found.update(range(first, last + 1, int(step or 1)))
    return sorted(found)


def _listed(numbers: Sequence[int] | None) -> str:
    return "*" if numbers is None else ",".join(map(str, numbers))


def due(orders: Sequence[scope.Order], last: Mapping[str, datetime], at: datetime) -> tuple[scope.Order, ...]:
    """The orders whose schedule has come since their last scan or attempt; missed runs are caught up once.

    Args:
        orders: the sites; one without a schedule is never due.
        last: when each was last scanned or could not be, by its name; one that is not there is due.
        at: the time of day.
    """
    return tuple(
        order
        for order in orders
        if order.schedule is not None
        and (order.site.name not in last or (_next(order.schedule, last[order.site.name]) or at) <= at)
    )


def _next(schedule: str, after: datetime) -> datetime | None:
    found: datetime | None = trigger(schedule).get_next_fire_time(None, after + timedelta(microseconds=1))
    return found


def next_due(orders: Sequence[scope.Order], after: datetime) -> datetime | None:
    """When the next of these orders is due after a time; None where none has a schedule."""
    times = [when for order in orders if order.schedule and (when := _next(order.schedule, after)) is not None]
    return min(times, default=None)


# --- for the system's own schedulers --------------------------------------------------------------


def cron_line(command: str) -> str:
    """The line for crontab(5) that sweeps every quarter of an hour what is due by then."""
    return f"*/15 * * * * {command.replace('%', chr(92) + '%')}"


def systemd_units(command: str) -> str:
    """A service and a timer for systemd that sweep every quarter of an hour what is due by then."""
    return f"""\
# ~/.config/systemd/user/exposure-scan.service
[Unit]
Description=Exposure sweep of the sites that are due
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={command.replace("%", "%%")}
# 1: a site is no-go; 3: one is inconclusive. Both are results, not failures of the service.
SuccessExitStatus=1 3

# ~/.config/systemd/user/exposure-scan.timer
[Unit]
Description=Exposure sweep every quarter of an hour

[Timer]
OnCalendar=*:0/15
Persistent=true

[Install]
WantedBy=timers.target
"""

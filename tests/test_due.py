"""When a site is due: cron's own rules, missed runs once, and the lines for cron and systemd."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from exposure_scan import scope
from exposure_scan.sweep.due import cron_line, due, next_due, systemd_units, trigger

MONDAY = datetime(2026, 11, 23, 12, tzinfo=UTC)
ORDER = scope.order_from_words(["198.51.100.10"], authorized_by="a test")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.mark.parametrize(
    ("schedule", "then"),
    [
        ("0 3 * * *", ["11-24 03:00", "11-25 03:00"]),
        ("*/20 13 * * *", ["11-23 13:00", "11-23 13:20", "11-23 13:40", "11-24 13:00"]),
        ("5/25 13 * * *", ["11-23 13:05", "11-23 13:30", "11-23 13:55"]),
        ("*/99 * * * *", ["11-23 13:00", "11-23 14:00"]),  # a step beyond the field leaves its first number
        ("0 3 * * 0", ["11-29 03:00", "12-06 03:00"]),  # Sunday is 0
        ("0 3 * * 7", ["11-29 03:00", "12-06 03:00"]),  # and 7
        ("0 3 * * 1", ["11-30 03:00"]),
        ("0 3 * * sun", ["11-29 03:00"]),
        ("0 3 * * sun-tue", ["11-24 03:00", "11-29 03:00", "11-30 03:00"]),
        ("0 3 * * 5-7", ["11-27 03:00", "11-28 03:00", "11-29 03:00", "12-04 03:00"]),
        ("0 3 * * */3", ["11-25 03:00", "11-28 03:00", "11-29 03:00"]),  # Sunday, Wednesday, Saturday
        ("0 3 1 * *", ["12-01 03:00"]),
        ("0 3 24 dec *", ["12-24 03:00"]),
        ("0 3 1 * fri", ["11-27 03:00", "12-01 03:00", "12-04 03:00"]),  # either of the two days is enough
    ],
)
def test_a_cron_line_means_what_cron_says(schedule: str, then: list[str]) -> None:
    when = MONDAY + timedelta(seconds=1)
    for expected in then:
        found = trigger(schedule).get_next_fire_time(None, when)
        assert f"{found.astimezone(UTC):%m-%d %H:%M}" == expected
        when = found + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("last", "at", "is_due"),
    [
        (None, MONDAY, True),  # never scanned
        (MONDAY.replace(hour=3, minute=0), MONDAY, False),  # at the very moment of its schedule
        (MONDAY.replace(hour=2, minute=59), MONDAY, True),
        (MONDAY.replace(hour=4), MONDAY, False),
        (MONDAY.replace(hour=4), MONDAY + timedelta(hours=14), False),
        (MONDAY.replace(hour=4), MONDAY + timedelta(hours=15), True),
        (MONDAY - timedelta(days=9), MONDAY, True),  # many runs missed: due, and once
    ],
)
def test_a_site_is_due_when_its_schedule_has_come_since_its_last_scan(
    last: datetime | None, at: datetime, is_due: bool
) -> None:
    order = replace(ORDER, schedule="0 3 * * *")
    known = {} if last is None else {order.site.name: last}
    assert due([order], known, at) == ((order,) if is_due else ())


def test_a_site_without_a_schedule_is_never_due() -> None:
    assert due([ORDER], {}, MONDAY) == ()
    assert next_due([ORDER], MONDAY) is None


def test_the_next_time_is_that_of_the_first_site() -> None:
    orders = [replace(ORDER, schedule=line) for line in ("0 5 * * *", "0 3 * * *")]
    assert next_due([ORDER, *orders], MONDAY) == datetime(2026, 11, 24, 3, tzinfo=UTC)


def test_the_lines_for_the_system_run_the_command_as_it_stands() -> None:
    command = "/opt/x/exposure-scan sweep --sites '/etc/100% sure.toml'"
    assert cron_line(command) == "*/15 * * * * /opt/x/exposure-scan sweep --sites '/etc/100\\% sure.toml'"
    units = systemd_units(command)
    assert "ExecStart=/opt/x/exposure-scan sweep --sites '/etc/100%% sure.toml'\n" in units
    assert "Persistent=true" in units  # what was missed while the machine was off is caught up once
    assert "SuccessExitStatus=1 3" in units

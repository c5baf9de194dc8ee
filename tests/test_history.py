"""What a scan says beside the scans before it: what broke, what was mended, since when, and what is only doubt."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest
import samples

from exposure_scan import history
from exposure_scan.model import Change, Past, PortState, Problem, Scan, Status, Turn, Verdict

PRACTICE = "sip.not-reachable"
WORDS = {"met": Status.MET, "broken": Status.NOT_MET, "doubt": Status.CANNOT_TELL, "told": Status.DECLARED}
WORDS |= {"untold": Status.UNDECLARED, "na": Status.NOT_APPLICABLE}


def past(scan: Scan, earlier: Iterable[Scan]) -> Past:
    return history.past(scan, map(history.look_of, earlier))


def scan_of(status: str, days_ago: int = 0, **more: object) -> Scan:
    made = samples.silent_site()
    found = tuple(one for one in made.findings if one.practice == PRACTICE) if status else ()
    found = tuple(one.model_copy(update={"status": WORDS[status]}) for one in found)
    started = made.started - timedelta(days=days_ago)
    return made.model_copy(update={"findings": found, "started": started} | more)


def course(*statuses: str) -> Change | None:
    """The change of the last of these scans, a day apart, the oldest first."""
    scans = [scan_of(status, len(statuses) - number) for number, status in enumerate(statuses, 1)]
    changes = past(scans[-1], scans[:-1]).changes
    assert len(changes) < 2
    return changes[0] if changes else None


@pytest.mark.parametrize(
    ("statuses", "turn", "days"),
    [
        ("met broken", Turn.NEW, 0),
        ("untold broken", Turn.NEW, 0),
        ("doubt broken", Turn.NEW, 0),
        (" broken", Turn.NEW, 0),
        ("broken broken", Turn.STILL, 1),
        ("met broken broken broken", Turn.STILL, 2),
        ("broken doubt broken", Turn.STILL, 2),  # doubt mends nothing
        ("broken met broken", Turn.BACK, 0),
        ("broken met doubt broken", Turn.BACK, 0),
        ("broken met broken broken", Turn.STILL, 1),
        ("broken met", Turn.FIXED, 0),
        ("broken told", Turn.FIXED, 0),
        ("broken doubt met", Turn.FIXED, 0),
        ("broken doubt", Turn.UNSEEN, 0),
        ("broken doubt doubt", Turn.UNSEEN, 1),
        ("broken untold", Turn.UNSEEN, 0),
        ("broken na", Turn.UNSEEN, 0),
        ("met doubt", Turn.OTHER, 0),
        ("told untold", Turn.OTHER, 0),
    ],
)
def test_a_practice_in_the_course_of_time(statuses: str, turn: Turn, days: int) -> None:
    found = course(*statuses.split(" "))
    assert found is not None
    assert found.turn is turn
    assert found.since == samples.AT - timedelta(days=days)


@pytest.mark.parametrize("statuses", ["met met", "doubt doubt", "broken met met", " met", "untold untold"])
def test_what_stands_as_it_stood_is_no_change(statuses: str) -> None:
    assert course(*statuses.split(" ")) is None


def test_the_first_scan_has_no_change_and_one_point() -> None:
    found = past(scan_of("broken"), [])
    assert found.last is None
    assert found.changes == ()
    assert [point.not_met for point in found.points] == [1]


def test_the_order_in_which_scans_are_given_does_not_matter_and_later_ones_do_not_count() -> None:
    now = scan_of("broken", 1)
    earlier = [scan_of("met", 2), scan_of("broken", 3), scan_of("met", 0)]
    found = past(now, earlier)
    assert found == past(now, reversed(earlier))
    assert [point.at for point in found.points] == [samples.AT - timedelta(days=days) for days in (3, 2, 1)]
    assert found.last == samples.AT - timedelta(days=2)


def test_the_verdict_before_is_told() -> None:
    assert past(scan_of("broken"), [scan_of("met", 1, verdict=Verdict.GO)]).was is Verdict.GO


def test_a_scan_of_another_site_is_refused() -> None:
    other = scan_of("met", 1)
    other = other.model_copy(update={"site": other.site.model_copy(update={"name": "another"})})
    with pytest.raises(Problem, match="give the same site's"):
        past(scan_of("broken"), [other])


@pytest.mark.parametrize(
    ("then", "now", "opened", "shut"),
    [
        (PortState.CLOSED, PortState.OPEN, True, False),
        (PortState.FILTERED, PortState.OPEN, True, False),
        (PortState.OPEN, PortState.FILTERED, False, True),
        (PortState.OPEN, PortState.OPEN, False, False),
        (PortState.UNMEASURED, PortState.OPEN, False, False),
        (PortState.OPEN, PortState.UNMEASURED, False, False),
        (PortState.CLOSED, PortState.FILTERED, False, False),
    ],
)
def test_a_door_counts_where_it_was_measured_both_times(
    then: PortState, now: PortState, opened: bool, shut: bool
) -> None:
    before = scan_of("met", 1, hosts=(samples.host("198.51.100.44", changed=(samples.port("tcp", 8080, then),)),))
    after = scan_of("met", hosts=(samples.host("198.51.100.44", changed=(samples.port("tcp", 8080, now),)),))
    found = past(after, [before]).doors
    assert [door.opened for door in found] == ([("tcp/8080",) if opened else ()] if opened or shut else [])
    assert [door.shut for door in found] == ([("tcp/8080",) if shut else ()] if opened or shut else [])


def test_a_banner_that_differs_is_no_change() -> None:
    def with_banner(text: str, days: int) -> Scan:
        port = samples.port("tcp", 25, PortState.OPEN, banner=text)
        return scan_of("met", days, hosts=(samples.host("198.51.100.44", changed=(port,)),))

    found = past(with_banner("220 b", 0), [with_banner("220 a", 1)])
    assert (found.changes, found.doors, found.came, found.went) == ((), (), (), ())


def test_addresses_that_came_and_went_are_named_and_no_door_of_theirs_is_a_change() -> None:
    before = scan_of("met", 1, hosts=(samples.host("198.51.100.44"),))
    opened = samples.host("198.51.100.45", changed=(samples.port("tcp", 25, PortState.OPEN),))
    found = past(scan_of("met", hosts=(opened,)), [before])
    assert (found.came, found.went) == (("198.51.100.45",), ("198.51.100.44",))
    assert found.doors == ()

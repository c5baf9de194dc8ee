"""How every site stands, read in one pass: the same as each site's own past says."""

from __future__ import annotations

from datetime import UTC, timedelta
from pathlib import Path

import pytest
import samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_history import WORDS, past, scan_of

from exposure_scan.history.store import Store, open_store
from exposure_scan.model import Scan, Turn, Turns

NIGHTS = st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=6)


def keep(store: Store, name: str, statuses: list[str]) -> list[Scan]:
    scans = []
    for number, status in enumerate(statuses, 1):
        scan = scan_of(status, len(statuses) - number, id=f"{name} {number}")
        scan = scan.model_copy(update={"site": scan.site.model_copy(update={"name": name})})
        store.add(scan, now=scan.started)
        scans.append(scan)
    return scans


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sites=st.lists(NIGHTS, min_size=1, max_size=5))
def test_one_pass_over_all_sites_says_what_each_site_s_past_says(
    sites: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("states") / "history.sqlite3"
    with open_store(f"sqlite:///{path}") as store:
        kept = {f"site {number}": keep(store, f"site {number}", statuses) for number, statuses in enumerate(sites)}
        found = {state.name: state for state in store.states()}
    assert set(found) == set(kept)
    for name, scans in kept.items():
        expected = past(scans[-1], scans[:-1])
        assert found[name].turns == Turns.of(expected.changes)
        assert found[name].was == expected.was
        assert found[name].points == expected.points
        open_since = [c.since for c in expected.changes if c.turn in (Turn.NEW, Turn.BACK, Turn.STILL)]
        if len(scans) > 1:
            assert found[name].oldest == min(open_since, default=None)


def test_a_breach_of_the_first_scan_has_an_age_and_is_no_change(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'history.sqlite3'}") as store:
        keep(store, "one", ["broken"])
        (state,) = store.states()
    assert state.turns == Turns()
    assert state.oldest == samples.AT


def test_failures_since_the_last_scan_are_counted_and_told(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'history.sqlite3'}") as store:
        at = samples.AT.astimezone(UTC) + timedelta(days=1)
        for number, why in enumerate(("the line is down", "the name is gone")):
            run, _ = store.begin_run(["one"], at)
            store.add_failure("one", run, why, now=at + timedelta(hours=number))
            store.end_run(run, at)
        assert store.failures() == {"one": (2, "the name is gone")}
        scan = scan_of("met", -3, id="later")
        scan = scan.model_copy(update={"site": scan.site.model_copy(update={"name": "one"})})
        store.add(scan, now=scan.started)
        assert store.failures() == {}

"""The history in a database: private, whole or not there, never lost by an update, a neighbour or a kill."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import permutations
from pathlib import Path

import pytest
import samples
from hypothesis import given, settings
from hypothesis import strategies as st
from kept_scans import DAY, DRAWN, FAST, HOSTS, NOW, PLAIN, scan_of, told, turns, url
from sqlalchemy import event

from exposure_scan import history
from exposure_scan.history.store import Letter, Store, open_store
from exposure_scan.model import PortState, Problem, Scan, Status, Turn, Verdict
from exposure_scan.report import load_scan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(url(path)) as opened:
        yield opened


# --- what goes in comes out -----------------------------------------------------------------------


def test_a_scan_comes_out_as_it_went_in(store: Store) -> None:
    for made in (samples.exposed_server(), samples.two_hosts().model_copy(update={"id": "2", "started": NOW})):
        store.add(made, now=NOW, folder=Path("/srv/reports/exposed-server"))
        assert load_scan(store.document(made.id)) == made
        assert told(made, store) == history.look_of(made)
    last, first = store.scans_of("exposed-server")
    assert (first.verdict, first.not_met, first.cannot_tell, first.undeclared) == (Verdict.NO_GO, 6, 1, 13)
    assert first.open == 4
    assert (first.started, last.started) == (samples.AT, NOW)
    assert first.folder == "/srv/reports/exposed-server"


def test_hostile_text_is_kept_and_does_no_harm(store: Store) -> None:
    made = samples.hostile(length=5000)
    store.add(made, now=NOW)
    assert load_scan(store.document(made.id)) == made
    with pytest.raises(Problem) as found:
        store.scans_of("another\x1b[31m")
    assert "\x1b" not in str(found.value)


def test_a_scan_is_kept_once_and_ticked_off_again(store: Store) -> None:
    store.add(PLAIN, now=NOW, letters=[Letter("a@customer.example", b"1")])
    run, _ = store.begin_run([PLAIN.site.name], NOW)
    store.add(PLAIN, now=NOW, run=run, letters=[Letter("a@customer.example", b"2")])
    assert len(store.scans_of(PLAIN.site.name)) == 1
    assert store.left_of(run) == ()
    assert [piece.message for piece in store.outbox.pieces("queued")] == [b"1"]


def test_a_folder_is_found_again_from_another_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store.add(PLAIN, now=NOW, folder=Path("reports") / "site")
    assert store.scans_of(PLAIN.site.name)[0].folder == str(tmp_path / "reports" / "site")


def test_an_unknown_site_is_told_with_those_that_are_known(store: Store) -> None:
    with pytest.raises(Problem, match="it is empty"):
        store.scans_of("x")
    store.add(PLAIN, now=NOW)
    with pytest.raises(Problem, match=f"it knows: '{PLAIN.site.name}'"):
        store.scans_of("x")


def test_the_last_scan_is_the_one_that_began_last_whichever_was_kept_last(store: Store) -> None:
    for number in (2, 5, 3):
        store.add(scan_of(number, Status.MET), now=NOW)
    store.add(scan_of(1, site="other"), now=NOW)
    assert {name: kept.scan for name, kept in store.last_scans().items()} == {
        "other": "other-1",
        "silent-site": "silent-site-5",
    }
    assert [kept.scan for kept in store.scans_of("silent-site")] == [f"silent-site-{n}" for n in (5, 3, 2)]


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(Exception, match="without its zone"):
        store.begin_run(["a"], datetime(2026, 1, 1))  # noqa: DTZ001


def test_the_last_attempt_is_a_scan_or_a_failure(store: Store) -> None:
    run, _ = store.begin_run(["a", "b", "c"], NOW)
    store.add_failure("a", run, "no way", now=NOW)
    store.add_failure("b", run, "no way", now=NOW)
    for number in (1, 0):
        store.add(scan_of(number, site="a"), now=NOW)
    store.add(scan_of(0, site="d"), now=NOW)
    assert store.last_attempts() == {"a": samples.AT + DAY, "b": NOW, "d": samples.AT}


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_is_gone_on_with_and_takes_up_what_is_due_meanwhile(path: Path) -> None:
    with open_store(url(path)) as store:
        run, continued = store.begin_run(["b", "a", "b"], NOW)
        assert not continued
        store.add(scan_of(1, site="a"), now=NOW, run=run)
        store.add_failure("b", run, "no way", now=NOW)
    with open_store(url(path)) as store:
        assert store.begin_run(["a", "c"], NOW) == (run, True)
        assert store.left_of(run) == ("c",)
        assert store.results_of(run) == (("a", Verdict.INCONCLUSIVE, None), ("b", None, "no way"))
        store.end_run(run, NOW)
        assert store.begin_run(["a"], NOW) == (run + 1, False)


# --- against the scans in memory ------------------------------------------------------------------

STATUSES = st.lists(st.tuples(*[st.sampled_from([None, *DRAWN])] * 4), min_size=1, max_size=9)


@settings(max_examples=30, deadline=None)
@given(STATUSES, st.randoms(use_true_random=False), st.integers(1, 9))
def test_the_database_says_what_the_scans_say(rows: list[tuple[Status | None, ...]], random: object, most: int) -> None:
    scans = [scan_of(number, *row) for number, row in enumerate(rows)]
    looks = list(map(history.look_of, scans))
    shuffled = list(scans)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(dir=FAST) as folder, open_store(url(Path(folder) / "h")) as store:
        for one in shuffled:
            store.add(one, now=NOW)
        assert list(store.looks("silent-site")) == looks
        last = scans[-1]
        assert history.past(last, store.looks("silent-site")) == history.past(last, looks)
        assert turns(last, store.looks("silent-site", most=most + 1)) == turns(last, looks)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_scans_that_are_kept_late_fall_in_their_place(path: Path, order: Sequence[int]) -> None:
    broken, met, doubt = Status.NOT_MET, Status.MET, Status.CANNOT_TELL
    rows = [
        (broken, met, broken, None),
        (met, broken, doubt, broken),
        (broken, met, met, None),
        (broken, met, met, met),
    ]
    scans = [scan_of(number, *row) for number, row in enumerate(rows)]
    new = scan_of(4, broken, broken, broken, broken)
    with open_store(url(path)) as store:
        for number in order:
            store.add(scans[number], now=NOW)
        for most in (1, 2, 3, 4):
            assert turns(new, store.looks("silent-site", most=most)) == turns(new, list(map(history.look_of, scans)))


def test_findings_that_were_changed_are_not_believed(store: Store, path: Path) -> None:
    store.add(scan_of(0, Status.NOT_MET), now=NOW)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE findings SET status = 'met'")
    with pytest.raises(Problem, match="damaged"):
        store.looks("silent-site")


@settings(max_examples=30, deadline=None)
@given(STATUSES, st.integers(0, 9))
def test_what_was_pruned_is_remembered(rows: list[tuple[Status | None, ...]], days: int) -> None:
    """But for what was no more judged when it was pruned."""
    filled = [tuple(status or Status.MET for status in row) for row in rows]
    scans = [scan_of(number, *row) for number, row in enumerate(filled)]
    looks = list(map(history.look_of, scans))
    with tempfile.TemporaryDirectory(dir=FAST) as folder, open_store(url(Path(folder) / "h")) as store:
        for number, one in enumerate(scans):
            assert turns(one, store.looks("silent-site")) == turns(one, looks[:number])
            store.add(one, now=NOW)
            store.prune(samples.AT + DAY * (number - days))
            kept = [look.at for look in store.looks("silent-site")]
            assert kept == [look.at for look in looks[max(number - days, 0) : number + 1]]


def test_an_age_outlives_its_scans_and_a_doubt_between_them(store: Store) -> None:
    for number in range(100):
        store.add(scan_of(number, Status.CANNOT_TELL if number % 7 == 3 else Status.NOT_MET), now=NOW)
        store.prune(samples.AT + DAY * (number - 5))
    (change,) = history.past(scan_of(100, Status.NOT_MET), store.looks("silent-site")).changes
    assert (change.turn, change.since) == (Turn.STILL, samples.AT)


def test_a_breach_that_comes_back_is_known_when_the_scans_of_the_first_are_gone(store: Store) -> None:
    for number, status in enumerate((Status.NOT_MET, Status.MET, Status.MET)):
        store.add(scan_of(number, status), now=NOW)
    store.prune(samples.AT + DAY * 2)
    assert len(store.scans_of("silent-site")) == 1
    (change,) = history.past(scan_of(3, Status.NOT_MET), store.looks("silent-site")).changes
    assert change.turn is Turn.BACK


def test_an_address_that_is_long_gone_is_forgotten(store: Store, path: Path) -> None:
    store.add(scan_of(0, Status.NOT_MET, Status.NOT_MET), now=NOW)
    for number in (1, 2):
        store.add(scan_of(number, Status.NOT_MET), now=NOW)
    rows = "SELECT host, count(*) FROM courses GROUP BY host"
    with sqlite3.connect(path) as db:
        assert dict(db.execute(rows)) == {HOSTS[0]: 1, HOSTS[1]: 2}
    store.prune(samples.AT + DAY * 2)
    with sqlite3.connect(path) as db:
        assert dict(db.execute(rows)) == {HOSTS[0]: 1}


def test_what_differs_without_meaning_is_no_change(store: Store) -> None:
    """A banner with a date, a nonce, the rtt, the evidence: a server says these otherwise each time."""

    def with_words(number: int) -> Scan:
        ports = (
            samples.port("tcp", 25, PortState.OPEN, banner=f"220 synthetic {number} Nov 2026", rtt_ms=float(number)),
            samples.port("udp", 5060, PortState.OPEN, banner=f'SIP/2.0 401 nonce="{number:032x}"', tries=number),
        )
        made = scan_of(number, Status.NOT_MET)
        found = tuple(
            one.model_copy(update={"because": f"It said {number}.", "evidence": (f"e{number}",)})
            for one in made.findings
        )
        hosts = (samples.host(HOSTS[0], changed=ports),)
        return made.model_copy(update={"hosts": hosts, "findings": found, "because": (f"because {number}",)})

    store.add(with_words(1), now=NOW)
    found = history.past(with_words(2), store.looks("silent-site"))
    assert [change.turn for change in found.changes] == [Turn.STILL]
    assert (found.doors, found.came, found.went) == ((), (), ())


def test_a_thousand_looks_take_three_questions(store: Store) -> None:
    """Counted, not timed: as many questions as for one scan."""
    for number in range(1000):
        store.add(scan_of(number, DRAWN[number % 6]), now=NOW)
    asked: list[str] = []
    engine = store._database._engine
    event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    assert len(store.looks("silent-site", most=1000)) == 1000
    assert len([words for words in asked if words.startswith("SELECT")]) == 3

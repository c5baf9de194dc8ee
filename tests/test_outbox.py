"""The outbox: each piece of mail goes once, and what nobody can know is said to be unknown."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import samples

from exposure_scan.history.outbox import Piece
from exposure_scan.history.store import Letter, Store, open_store

NOW = samples.AT + timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SITE = samples.silent_site().site.name


def url(path: Path) -> str:
    return f"sqlite:///{path / 'history.sqlite3'}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(url(tmp_path)) as opened:
        yield opened


def queue(store: Store, *recipients: str, urgent: bool = False, number: int = 0) -> None:
    made = samples.silent_site().model_copy(update={"id": str(number), "started": samples.AT + MINUTE * number})
    letters = [Letter(f"{name}@customer.example", name.encode(), urgent) for name in recipients]
    store.add(made, now=NOW + MINUTE * number, letters=letters)


def only(store: Store) -> Piece:
    (piece,) = store.outbox.pieces("queued", "sending", "sent", "refused", "unknown")
    return piece


def test_mail_waits_as_it_was_written(store: Store) -> None:
    queue(store, "a")
    piece = only(store)
    assert (piece.site, piece.scan, piece.recipient, piece.message) == (SITE, "0", "a@customer.example", b"a")
    assert (piece.state, piece.tries, piece.next_try, piece.queued) == ("queued", 0, NOW, NOW)
    assert store.outbox.due(NOW) == (piece,)
    assert store.outbox.due(NOW - MINUTE) == ()


def test_the_urgent_go_first_then_the_oldest(store: Store) -> None:
    queue(store, "a", "b")
    queue(store, "c", urgent=True, number=1)
    later = NOW + MINUTE
    assert [piece.message for piece in store.outbox.due(later)] == [b"c", b"a", b"b"]
    assert [piece.message for piece in store.outbox.due(later, most=2)] == [b"c", b"a"]


def test_a_recipient_has_one_mail_of_a_scan(store: Store) -> None:
    queue(store, "a", "a", "b")
    assert store.outbox.counts() == {"queued": 2}


def test_the_failures_of_one_night_all_reach_the_same_partner(store: Store) -> None:
    run, _ = store.begin_run(["a", "b"], NOW)
    for site in ("a", "b"):
        store.add_failure(site, run, "no way", now=NOW, letters=[Letter("partner@partner.example", site.encode())])
    assert [piece.message for piece in store.outbox.due(NOW)] == [b"a", b"b"]


def test_what_was_sent_is_not_due_again(store: Store) -> None:
    queue(store, "a")
    piece = only(store)
    assert store.outbox.hand_over(piece, NOW)
    assert (only(store).state, store.outbox.due(NOW)) == ("sending", ())
    store.outbox.settle(piece, "sent", "250 ok", NOW)
    done = only(store)
    assert (done.state, done.said, done.tries, store.outbox.due(NOW + timedelta(days=9))) == ("sent", "250 ok", 1, ())
    assert not store.outbox.hand_over(piece, NOW)


def test_of_two_processes_one_has_it_and_the_other_changes_nothing(store: Store, tmp_path: Path) -> None:
    queue(store, "a")
    piece = only(store)
    with open_store(url(tmp_path)) as other:
        assert other.outbox.due(NOW) == (piece,)
        assert store.outbox.hand_over(piece, NOW)
        assert not other.outbox.hand_over(piece, NOW)
        other.outbox.postpone(piece, "somebody else has it", NOW)
        other.outbox.settle(piece, "refused", "no", NOW)
        assert only(store).state == "sending"
        store.outbox.settle(piece, "sent", "250 ok", NOW)
        other.outbox.postpone(piece, "somebody else has it", NOW)
        assert only(store).state == "sent"


def test_a_word_about_an_earlier_try_changes_nothing(store: Store, tmp_path: Path) -> None:
    queue(store, "a")
    old = only(store)
    with open_store(url(tmp_path)) as other:
        other.outbox.postpone(old, "451 later", NOW)
    store.outbox.settle(old, "refused", "550 no", NOW)
    assert (only(store).state, only(store).tries) == ("queued", 1)


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_failed_try_comes_again_later_and_later_for_about_five_days(store: Store, handed_over: bool) -> None:
    queue(store, "a")
    at = NOW
    waits: list[timedelta] = []
    while due := store.outbox.due(at):
        if handed_over:
            assert store.outbox.hand_over(due[0], at)
        again = store.outbox.postpone(due[0], "451 greylisted", at)
        piece = only(store)
        assert again == (piece.state == "queued")
        assert piece.tries == len(waits) + 1
        if again:
            assert store.outbox.due(piece.next_try - timedelta(seconds=1)) == ()
            waits.append(piece.next_try - at)
            at = piece.next_try
    assert (only(store).state, only(store).said) == ("refused", "451 greylisted")
    assert waits[:3] == [MINUTE, MINUTE * 2, MINUTE * 4]
    assert waits == sorted(waits)
    assert waits[-1] == timedelta(hours=6)
    assert timedelta(days=4) < at - NOW < timedelta(days=5)


def test_a_refusal_before_the_message_went_counts_as_a_try(store: Store) -> None:
    queue(store, "a")
    store.outbox.settle(only(store), "refused", "550 " + "x" * 5000, NOW)
    assert (only(store).state, only(store).tries, len(only(store).said)) == ("refused", 1, 500)


def test_what_a_kill_left_on_its_way_is_unknown_told_once_and_never_sent_again(tmp_path: Path) -> None:
    with open_store(url(tmp_path)) as store:
        queue(store, "a", "b")
    child = os.fork()
    if child == 0:
        try:
            with open_store(url(tmp_path)) as store:
                store.outbox.hand_over(store.outbox.due(NOW)[0], NOW)
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    with open_store(url(tmp_path)) as store:
        (piece,) = store.outbox.recover(NOW)
        assert (piece.state, piece.message) == ("unknown", b"a")
        assert "process ended" in piece.said
        assert store.outbox.recover(NOW) == ()
        assert [one.message for one in store.outbox.due(NOW + timedelta(days=9))] == [b"b"]
        assert store.outbox.counts() == {"queued": 1, "unknown": 1}


def test_when_somebody_was_written_to_last_outlives_the_message(store: Store) -> None:
    queue(store, "a", "b")
    queue(store, "a", number=1)
    for piece in store.outbox.due(NOW + MINUTE):
        if piece.message != b"b":
            store.outbox.hand_over(piece, NOW)
            store.outbox.settle(piece, "sent", "250 ok", NOW)
    store.prune(NOW + timedelta(days=1))
    assert [(piece.message, piece.state) for piece in store.outbox.pieces("queued", "sent")] == [
        (b"b", "queued"),
        (b"", "sent"),
    ]
    assert store.last_mail(SITE, ["a@customer.example"]) == NOW + MINUTE
    assert store.last_mail(SITE, ["b@customer.example", "x@customer.example"]) == NOW
    assert store.last_mail(SITE, ["x@customer.example"]) is None
    assert store.last_mail(SITE, []) is None

"""What waits in the outbox leaves: never lost, never twice, whatever happens at whatever step; and the password."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from email import message_from_bytes
from email.policy import default
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import samples
from mail_server import PASSWORD, STEPS, USER, Answer, Fault, MailServer, serving, write_authority
from test_deliver import AUTH_WORDS

from exposure_scan import deliver
from exposure_scan.history.store import Letter, Store, open_store
from exposure_scan.model import Problem
from exposure_scan.scope import SitesFile
from exposure_scan.sweep import outgoing

AT = samples.AT
OWNER, OTHER, THIRD = "owner@customer.example", "other@customer.example", "third@customer.example"
MESSAGE = b"Subject: synthetic\r\n\r\nsynthetic\r\n"
BIG = MESSAGE + (b"more than the buffers of both ends hold " * 24 + b"\r\n") * 6_000
ROUNDS = 4


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("SSL_CERT_FILE", str(write_authority(tmp_path / "authority.pem")))
    with open_store(f"sqlite:///{tmp_path / 'history.sqlite3'}") as opened:
        yield opened


def queue(store: Store, *recipients: str, message: bytes = MESSAGE, scan: str = "1", urgent: bool = False) -> None:
    made = samples.silent_site().model_copy(update={"id": scan})
    store.add(made, now=AT, letters=[Letter(recipient, message, urgent) for recipient in recipients])


def server_of(told: MailServer, seconds: float = 20.0) -> deliver.Server:
    return deliver.Server(
        "localhost", told.port, "starttls", "reports@partner.example", USER, PASSWORD, seconds, last_timeout=seconds
    )


def send(store: Store, told: MailServer, at: datetime = AT) -> outgoing.Sent:
    return outgoing.send_mail(store, server_of(told), clock=lambda: at)


def states(store: Store) -> dict[str, str]:
    found = store.outbox.pieces("queued", "sending", "sent", "refused", "unknown")
    return {piece.recipient: piece.state for piece in found}


# --- faults ---------------------------------------------------------------------------------------

ANSWERS: tuple[Answer, ...] = ("451 4.3.0 later", "552 5.3.4 never", "421 4.3.2 bye", *Fault)
PAIRS = [(step, fault) for step, fault in product(STEPS, ANSWERS) if step != "BODY" or isinstance(fault, Fault)]


def first_state(step: str, fault: Answer) -> str:
    """What becomes of the message that the fault befalls, in the end."""
    if step == "END" and isinstance(fault, Fault):
        return "unknown"
    if step in ("RCPT", "DATA", "END") and isinstance(fault, str) and fault.startswith("5"):
        return "refused"
    return "sent"


@pytest.mark.parametrize(("step", "fault"), PAIRS)
def test_no_fault_loses_a_message_or_sends_it_twice(store: Store, step: str, fault: Answer) -> None:
    queue(store, OWNER, OTHER, message=BIG if step == "BODY" else MESSAGE)
    with serving() as told:
        told.script = {step: [fault]}
        seconds = 1.0 if fault in (Fault.HANG, Fault.DRIP) else 20.0
        found = []
        for number in range(ROUNDS):
            at = AT + number * timedelta(hours=7)
            found.append(outgoing.send_mail(store, server_of(told, seconds), clock=lambda at=at: at))  # type: ignore[misc]
            assert "sending" not in states(store).values()
    assert states(store) == {OWNER: first_state(step, fault), OTHER: "sent"}
    accepted = sorted(got.recipient for got in told.accepted)
    assert accepted == sorted(who for who, state in states(store).items() if state == "sent")
    received = [got.recipient for got in told.got]
    known = 1 if step == "END" and first_state(step, fault) == "sent" else 0  # it was told: not accepted
    assert received.count(OWNER) <= 1 + known
    assert received.count(OTHER) == 1
    # what is not known, and what was refused, is said once, to whom and why
    assert [len(one.unknown) for one in found] == [int(first_state(step, fault) == "unknown"), 0, 0, 0]
    assert [len(one.refused) for one in found] == [int(first_state(step, fault) == "refused"), 0, 0, 0]
    assert [one.sent for one in found] == [
        _sent_at_once(step, fault),
        2 - _sent_at_once(step, fault) - _lost(found),
        0,
        0,
    ]
    for line in found[0].unknown + found[0].refused:
        assert line.startswith(f"{OWNER} (sample site): ")


def _lost(found: list[outgoing.Sent]) -> int:
    return sum(len(one.unknown) + len(one.refused) for one in found)


def _sent_at_once(step: str, fault: Answer) -> int:
    """How many messages the first round brings home: the other one, where only one is hit."""
    about_all = step in ("GREETING", "EHLO", "STARTTLS", "EHLO2", "AUTH")
    return 0 if about_all or (step == "MAIL" and isinstance(fault, str) and fault.startswith("5")) else 1


def test_a_server_that_is_down_is_asked_once_and_everything_waits_longer_each_time(store: Store) -> None:
    queue(store, *(f"r{number}@customer.example" for number in range(120)))
    with serving() as told:
        told.always = {"GREETING": "421 4.3.2 not now"}
        found = send(store, told)
        assert (found.later, found.sent, told.connections) == (120, 0, 1)
        assert found.problem == f"localhost:{told.port}: 421 4.3.2 not now"
        waits = []
        for _ in range(5):
            (first,) = {piece.next_try for piece in store.outbox.pieces("queued")}
            send(store, told, first)
            (then,) = {piece.next_try for piece in store.outbox.pieces("queued")}
            waits.append((then - first) / timedelta(minutes=1))
            assert send(store, told, then - timedelta(seconds=1)).later == 0
        assert waits == [2, 4, 8, 16, 32]
        told.always = {}
        assert send(store, told, then).sent == 120
    assert len({got.recipient for got in told.accepted}) == len(told.accepted) == 120


def test_a_message_that_never_gets_through_is_given_up_aloud(store: Store) -> None:
    queue(store, OWNER)
    with serving() as told:
        told.recipients = {OWNER: "450 4.2.0 greylisted"}
        at, found = AT, []
        while states(store) == {OWNER: "queued"}:
            found.append(send(store, told, at))
            at += timedelta(hours=7)
            assert len(found) < 100
    assert all(one.waiting == [f"{OWNER} (sample site): 450 4.2.0 greylisted"] for one in found[:-1])
    (line,) = found[-1].refused
    assert line == f"{OWNER} (sample site): given up after {len(found)} tries; the last: 450 4.2.0 greylisted"
    assert states(store) == {OWNER: "refused"}


def test_one_that_is_refused_stops_no_other(store: Store) -> None:
    queue(store, OWNER, OTHER, THIRD)
    with serving() as told:
        told.recipients = {OWNER: "552 5.2.2 full", OTHER: "554 5.7.1 not you"}
        found = send(store, told)
    assert states(store) == {OWNER: "refused", OTHER: "refused", THIRD: "sent"}
    assert found.refused == [f"{OWNER} (sample site): 552 5.2.2 full", f"{OTHER} (sample site): 554 5.7.1 not you"]
    assert told.connections == 1


def test_a_server_that_ends_each_connection_is_left_alone_after_a_few(store: Store) -> None:
    queue(store, *(f"r{number}@customer.example" for number in range(20)))
    with serving() as told:
        told.always = {"MAIL": Fault.CUT}
        found = send(store, told)
        assert told.connections == 3
    assert found.later == 20
    assert "ended 3 connections in a row" in found.problem


def test_a_server_that_takes_few_messages_a_connection_gets_all_of_them(store: Store) -> None:
    queue(store, *(f"r{number}@customer.example" for number in range(6)))
    with serving() as told:
        told.script = {"MAIL": [None, None, "421 4.7.0 too many", None, None, "421 4.7.0 too many"]}
        assert send(store, told).sent == 4
        assert send(store, told, AT + timedelta(hours=1)).sent == 2
    assert len({got.recipient for got in told.accepted}) == 6


def test_the_urgent_goes_first(store: Store) -> None:
    queue(store, OWNER, scan="1")
    queue(store, OTHER, scan="2", urgent=True)
    with serving() as told:
        send(store, told)
    assert [got.recipient for got in told.got] == [OTHER, OWNER]


def test_what_a_process_was_handing_over_when_it_ended_is_told_once_and_not_sent_again(store: Store) -> None:
    queue(store, OWNER, OTHER)
    first = store.outbox.due(AT)[0]
    assert store.outbox.hand_over(first, AT)
    with serving() as told:
        found = [send(store, told), send(store, told, AT + timedelta(days=1))]
    assert found[0].unknown == [f"{OWNER} (sample site): the program ended while the server had the message"]
    assert found[1].unknown == []
    assert [got.recipient for got in told.got] == [OTHER]
    assert states(store) == {OWNER: "unknown", OTHER: "sent"}


def test_what_another_process_has_taken_meanwhile_is_left_to_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(store, OWNER, OTHER)
    real = store.outbox.hand_over

    def taken(piece: Any, now: datetime) -> bool:
        if piece.recipient == OWNER:
            assert real(piece, now)
            store.outbox.settle(piece, "sent", "250 by the other", now)
        return real(piece, now)

    monkeypatch.setattr(store.outbox, "hand_over", taken)
    with serving() as told:
        found = send(store, told)
        send(store, told, AT + timedelta(days=1))
    assert (found.sent, found.later) == (1, 0)
    assert [got.recipient for got in told.got] == [OTHER]
    assert states(store) == {OWNER: "sent", OTHER: "sent"}


def test_what_a_server_says_reaches_nobody_s_terminal_as_it_is(store: Store) -> None:
    queue(store, OWNER)
    with serving() as told:
        told.recipients = {OWNER: f"550 no\x1b[31m\x1b]0;owned\x07\u202e{'x' * 400}"}
        found = send(store, told)
    (line,) = found.refused
    assert line.isprintable()
    assert len(line) < 500
    (piece,) = store.outbox.pieces("refused")
    assert piece.said.isprintable()


# --- a dry run ------------------------------------------------------------------------------------


def test_a_dry_run_writes_files_for_the_owner_alone_and_changes_nothing(store: Store, tmp_path: Path) -> None:
    queue(store, OWNER, "o'../../x|y@customer.example")
    before = store.outbox.pieces("queued")
    folder = tmp_path / "outbox"
    paths = outgoing.write_eml(store.outbox.due(AT), folder)
    assert store.outbox.pieces("queued") == before
    assert sorted(paths) == sorted(folder.iterdir())
    assert [path.name for path in paths] == [
        "000001-sample-site-owner-customer-example.eml",
        "000002-sample-site-o-x-y-customer-example.eml",
    ]
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert message_from_bytes(path.read_bytes(), policy=default)["Subject"] == "synthetic"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert outgoing.write_eml(store.outbox.due(AT), folder) == paths


def test_a_dry_run_into_what_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match="cannot be made"):
        outgoing.write_eml((), tmp_path / "file" / "outbox")


# --- the password ---------------------------------------------------------------------------------


def sites_file(**mail: object) -> SitesFile:
    return SitesFile(Path("sites.toml"), (), {"mail": "help@partner.example"}, mail)


@pytest.mark.parametrize(
    ("mail", "port", "security"),
    [
        ({}, 587, "starttls"),
        ({"security": "tls"}, 465, "tls"),
        ({"port": 465}, 465, "tls"),
        ({"port": 2525}, 2525, "starttls"),
        ({"security": "none"}, 25, "none"),
    ],
)
def test_what_the_sites_file_leaves_out(mail: dict[str, object], port: int, security: str) -> None:
    found = outgoing.server(sites_file(host="mail.partner.example", **mail))
    assert (found.port, found.security, found.sender) == (port, security, "help@partner.example")
    assert (found.username, found.password) == (None, None)


def sentence(**mail: object) -> str:
    with pytest.raises(Problem) as caught:
        outgoing.server(sites_file(**mail))
    assert caught.value.__context__ is None
    assert "ecret" not in repr(caught.value)
    return str(caught.value)


def test_a_login_is_whole_and_safe_or_none() -> None:
    assert "no mail server" in sentence()
    assert "mail.username has no password" in sentence(host="h", username="u")
    assert "in clear" in sentence(host="h", username="u", security="none", password_command=["true"])


def test_the_password_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"host": "h", "username": "u", "password_env": "SYNTHETIC_MAIL"}
    assert "has no SYNTHETIC_MAIL" in sentence(**told)
    monkeypatch.setenv("SYNTHETIC_MAIL", PASSWORD)
    assert outgoing.server(sites_file(**told)).password == PASSWORD


def test_the_password_of_a_file_that_the_owner_alone_may_read(tmp_path: Path) -> None:
    path = tmp_path / "mail-password"
    told = {"host": "h", "username": "u", "password_file": str(path)}
    assert "cannot be read (No such file or directory)" in sentence(**told)
    path.write_text(f"{PASSWORD}\nSecret of another line\n")
    for mode in (0o644, 0o640, 0o604, 0o620):
        path.chmod(mode)
        assert f"can be read by others: chmod 600 {path}" in sentence(**told)
    path.chmod(0o600)
    assert outgoing.server(sites_file(**told)).password == PASSWORD
    path.write_bytes(b"Secret\xff\n")
    assert "no password in its first line" in sentence(**told)


def test_the_password_of_a_command() -> None:
    def told(script: str) -> dict[str, Any]:
        return {"host": "h", "username": "u", "password_command": ["sh", "-c", script]}

    assert outgoing.server(sites_file(**told(f"echo '{PASSWORD}'; echo more"))).password == PASSWORD
    assert "it ended with 3" in sentence(**told("echo Secret; echo Secret >&2; exit 3"))
    assert "no password in its first line" in sentence(**told("true"))
    assert "No such file" in sentence(host="h", username="u", password_command=["/nonexistent/program"])


def test_the_command_does_not_wait_for_the_keyboard() -> None:
    mine, typed = os.dup(0), os.pipe()
    os.write(typed[1], b"what somebody types\n")
    os.close(typed[1])
    os.dup2(typed[0], 0)
    try:
        assert "no password" in sentence(host="h", username="u", password_command=["cat"])
    finally:
        os.dup2(mine, 0)
        os.close(mine)
        os.close(typed[0])


@pytest.mark.parametrize("debug", ["", "1"])
@pytest.mark.parametrize("step", ["EHLO2", "AUTH", "MAIL", "RCPT", "END", "none"])
def test_a_sweep_says_the_password_nowhere(store: Store, tmp_path: Path, step: str, debug: str) -> None:
    """The whole program, and a server that repeats what it was told: all that the sweep writes is searched."""
    queue(store, OWNER, message=MESSAGE)
    file = tmp_path / "secret"
    file.write_text(PASSWORD)
    file.chmod(0o600)
    with serving() as told:
        told.always = {step: f"{'535' if step == 'AUTH' else '451'} you said {' '.join(AUTH_WORDS)}"}
        (tmp_path / "sites.toml").write_text(
            f'[partner]\nmail = "help@partner.example"\n[mail]\nhost = "localhost"\nport = {told.port}\n'
            f'username = "{USER}"\npassword_file = "{file}"\n'
            '[[site]]\nname = "Synthetic Dental"\ntargets = ["198.51.100.12"]\nreport_to = ["owner@customer.example"]\n'
            '[site.authorization]\nby = "Synthetic owner"\n'
        )
        words = ["sweep", "--sites", "sites.toml", "--out", "out", "--db", f"sqlite:///{tmp_path / 'history.sqlite3'}"]
        done = subprocess.run(
            [sys.executable, "-m", "exposure_scan", *words],
            cwd=tmp_path,
            env={**os.environ, "EXPOSURE_SCAN_DEBUG": debug} if debug else dict(os.environ),
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert told.logins == ([] if step in ("EHLO2", "AUTH") else [(USER, PASSWORD)]), done.stderr.decode()
    assert done.returncode == 0, done.stderr.decode()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != file]
    said = b"\0".join([done.stdout, done.stderr, *written])
    assert not [word for word in AUTH_WORDS if word.encode() in said]
    assert states(store) == {OWNER: "sent" if step == "none" else "queued"}


def test_logging_in_full_shows_no_password(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    queue(store, OWNER)
    with serving() as told:
        send(store, told)
    assert not [word for word in AUTH_WORDS if word in caplog.text]

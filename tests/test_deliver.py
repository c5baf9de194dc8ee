"""One connection to the mail server: TLS that is verified, a login that stays secret, and the fate of each message."""

from __future__ import annotations

import base64
import logging
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mail_server import PASSWORD, USER, Answer, Fault, MailServer, serving, write_authority

from exposure_scan import deliver
from exposure_scan.deliver import Delivery, Fate, Outcome, Server
from exposure_scan.model import Problem

MESSAGE = b"Subject: synthetic\r\n\r\n.a line that begins with a dot\r\n..\r\nend\r\n"
OWNER, OTHER = "owner@customer.example", "other@customer.example"
AUTH_WORDS = (
    PASSWORD,
    base64.b64encode(PASSWORD.encode()).decode(),
    base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode(),
)


@pytest.fixture(autouse=True)
def _authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(write_authority(tmp_path / "authority.pem")))


def server_of(told: MailServer, security: str = "starttls", **more: object) -> Server:
    values: dict[str, object] = {
        "host": "localhost",
        "port": told.port,
        "security": security,
        "sender": "reports@partner.example",
        "username": USER,
        "password": PASSWORD,
        "timeout": 20.0,
        "last_timeout": 20.0,
    }
    return Server(**(values | more))  # type: ignore[arg-type]


@contextmanager
def talking(security: str = "starttls") -> Iterator[tuple[MailServer, Delivery]]:
    with serving(tls=security) as told, deliver.connected(server_of(told, security)) as delivery:
        yield told, delivery


def send(delivery: Delivery, recipient: str = OWNER, message: bytes = MESSAGE) -> Outcome:
    return delivery.send(recipient, message, lambda: True)


# --- what arrives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_message_arrives_as_it_was(security: str) -> None:
    with talking(security) as (told, delivery):
        assert send(delivery) == Outcome(Fate.SENT, "250 2.0.0 queued")
    (got,) = told.accepted
    assert (got.sender, got.recipient) == ("reports@partner.example", OWNER)
    assert got.content == MESSAGE
    assert told.logins == [(USER, PASSWORD)]


def test_many_messages_go_over_one_connection_with_a_reset_between_them() -> None:
    with talking() as (told, delivery):
        for _ in range(3):
            assert send(delivery).fate is Fate.SENT
    assert told.connections == 1
    asked = [verb for verb in told.verbs(1) if verb in ("MAIL", "RSET")]
    assert asked == ["MAIL", "RSET", "MAIL", "RSET", "MAIL"]
    assert told.verbs(1)[-1] == "QUIT"


@pytest.mark.parametrize("answer", ["552 5.2.2 mailbox full", "554 5.7.1 not you", "450 4.2.0 greylisted"])
def test_a_recipient_that_is_refused_stops_no_other(answer: str) -> None:
    with talking() as (told, delivery):
        told.recipients = {OWNER: answer}
        found = [send(delivery, recipient) for recipient in (OWNER, OTHER)]
    assert found[0] == Outcome(Fate.REFUSED if answer.startswith("5") else Fate.LATER, answer)
    assert found[1].fate is Fate.SENT
    assert [got.recipient for got in told.got] == [OTHER]
    assert told.connections == 1


def test_what_looks_like_the_end_of_a_message_is_none() -> None:
    smuggled = b"Subject: synthetic\r\n\r\none\n.\nMAIL FROM:<x@y.example>\r.\rtwo\r\n.\r\nthree"
    with talking() as (told, delivery):
        assert send(delivery, message=smuggled).fate is Fate.SENT
    (got,) = told.got
    assert got.content.split(b"\r\n")[2:] == [
        b"one",
        b".",
        b"MAIL FROM:<x@y.example>",
        b".",
        b"two",
        b".",
        b"three",
        b"",
    ]
    assert told.verbs(1).count("MAIL") == 1


@pytest.mark.parametrize(
    "recipient", ["jörg@customer.example", "a@b.example>\r\nDATA\r\n", "a b@c.example", "none", "", "a@b@c.example"]
)
def test_a_recipient_that_cannot_be_written_to_is_refused_with_a_sentence(recipient: str) -> None:
    with talking() as (told, delivery):
        outcome = send(delivery, recipient)
    assert outcome.fate is Fate.REFUSED
    assert outcome.said.endswith(".")
    assert "MAIL" not in told.verbs(1)


def test_a_domain_that_is_not_ascii_is_written_as_it_goes_over_the_wire() -> None:
    with talking() as (told, delivery):
        assert send(delivery, "owner@bücher.example").fate is Fate.SENT
    assert told.got[0].recipient == "owner@xn--bcher-kva.example"


# --- safe or not at all ---------------------------------------------------------------------------


def refused(server: Server) -> str:
    with pytest.raises(ConnectionError) as caught, deliver.connected(server):
        pass
    assert caught.value.__context__ is None, "the exception behind it may hold what was sent"
    assert str(caught.value).isprintable()
    return str(caught.value)


def nothing_was_sent(told: MailServer) -> bool:
    return told.got == [] and told.logins == [] and not {"AUTH", "MAIL"} & {verb for _, verb in told.commands}


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_for_another_name_ends_it(security: str) -> None:
    with serving(tls=security) as told:
        said = refused(server_of(told, security, host="127.0.0.1"))
        assert "its certificate was not accepted (IP address mismatch" in said
        assert nothing_was_sent(told)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_an_authority_that_nobody_trusts_ends_it(security: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with serving(tls=security) as told:
        said = refused(server_of(told, security))
        assert "its certificate was not accepted (unable to get local issuer certificate)" in said
        assert nothing_was_sent(told)


def test_a_server_without_starttls_gets_nothing() -> None:
    with serving(tls="none") as told:
        assert "it offers no STARTTLS, so nothing was sent" in refused(server_of(told))
        assert nothing_was_sent(told)


def test_a_password_never_goes_without_tls() -> None:
    with serving(tls="none") as told:
        assert "a password never goes without TLS" in refused(server_of(told, "none"))
        assert told.connections == 0


def test_mail_without_tls_goes_where_the_operator_says_so() -> None:
    with (
        serving(tls="none", login=False) as told,
        deliver.connected(server_of(told, "none", username=None, password=None)) as delivery,
    ):
        assert send(delivery).fate is Fate.SENT


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = server_of(MailServer(port=free.getsockname()[1]))
        assert "Connection refused" in refused(server)


def test_a_host_that_is_no_name_is_told_in_a_sentence() -> None:
    assert refused(server_of(MailServer(port=25), host="a..b")).startswith("a..b:25: ")


# --- the secret -----------------------------------------------------------------------------------


def test_the_password_is_in_no_exception_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving() as told:
        told.always = {"AUTH": f"535 wrong: {' '.join(AUTH_WORDS)}"}
        server = server_of(told)
        with pytest.raises(ConnectionError) as caught, deliver.connected(server):
            pass
    assert caught.tb.tb_next is not None
    error = caught.value.with_traceback(caught.tb.tb_next)  # without the test's own line and names
    told_by_it = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()) + repr(
        (error, error.__context__, error.__cause__, server)
    )
    assert f"it refused the login of '{USER}' (535)" in told_by_it
    own = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("mail."))
    assert not [word for word in AUTH_WORDS if word in told_by_it + own]


def test_a_server_that_repeats_the_password_does_not_bring_it_into_a_report() -> None:
    with talking() as (told, delivery):
        told.script = {"MAIL": [f"451 {word}" for word in AUTH_WORDS]}
        found = [send(delivery).said for _ in AUTH_WORDS]
        assert found == ["451 ***"] * 3
        told.script = {"MAIL": [f"551 {PASSWORD}"]}
        with pytest.raises(ConnectionError, match=r"takes no mail from reports@partner\.example: 551 \*\*\*$"):
            send(delivery)


def test_a_wrong_password_is_told_without_it() -> None:
    with serving() as told:
        said = refused(server_of(told, password="Wrong-secret"))
        assert said.endswith(f"it refused the login of '{USER}' (535)")


# --- faults ---------------------------------------------------------------------------------------

LATE = [(step, fault) for step in ("RSET", "MAIL", "RCPT", "DATA") for fault in ("421 4.3.2 bye", Fault.CUT)]


@pytest.mark.parametrize(("step", "fault"), LATE)
def test_a_connection_that_ends_is_told_to_be_over(step: str, fault: Answer) -> None:
    with talking() as (told, delivery):
        assert send(delivery).fate is Fate.SENT
        told.script = {step: [fault]}
        assert send(delivery, OTHER).fate is Fate.LATER
        assert not delivery.open
    assert [got.recipient for got in told.got] == [OWNER]


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        ("250 ok", Fate.SENT),
        ("251 will forward", Fate.SENT),
        ("452 full", Fate.LATER),
        ("554 spam", Fate.REFUSED),
        ("354 what", Fate.UNKNOWN),
        ("hello", Fate.UNKNOWN),
        (Fault.CUT, Fate.UNKNOWN),
        (Fault.DRIP, Fate.UNKNOWN),
    ],
)
def test_only_what_the_server_says_to_the_whole_message_settles_it(answer: Answer, fate: Fate) -> None:
    with talking() as (told, delivery):
        told.script = {"END": [answer]}
        assert send(delivery).fate is fate
    assert len(told.got) == 1


@pytest.mark.parametrize(
    ("step", "answer"), [("MAIL", "354 go on"), ("RCPT", "354 go on"), ("DATA", "250 ok"), ("DATA", "no code")]
)
def test_an_answer_to_another_question_sends_no_message(step: str, answer: str) -> None:
    with talking() as (told, delivery):
        told.script = {step: [answer]}
        assert send(delivery).fate is Fate.LATER
        assert not delivery.open
    assert told.got == []
    assert b"begins with a dot" not in told.heard


def test_a_login_that_the_server_asks_for_again_is_no_refusal_of_the_recipient() -> None:
    with talking() as (told, delivery):
        told.script = {"RCPT": ["530 5.7.0 authentication required"]}
        with pytest.raises(ConnectionError, match="530"):
            send(delivery)


def test_a_message_that_is_not_to_go_any_more_does_not() -> None:
    with talking() as (told, delivery):
        assert delivery.send(OWNER, MESSAGE, lambda: False).fate is Fate.TAKEN
        assert not delivery.open
    assert told.got == []


def test_a_message_is_dropped_where_nobody_can_write_down_that_it_goes() -> None:
    def fails() -> bool:
        raise OSError("the disk is full")

    with talking() as (told, delivery):
        with pytest.raises(OSError, match="the disk is full"):
            delivery.send(OWNER, MESSAGE, fails)
        assert not delivery.open
    assert told.got == []


def test_the_server_may_not_be_believed_before_the_message_is_whole() -> None:
    """A server that says 250 to a message that it has not seen whole: nothing is handed over on that word."""
    asked = []

    def handing_over() -> bool:
        asked.append(1)
        return True

    with talking() as (told, delivery):
        told.script = {"BODY": ["250 ok"]}
        outcome = delivery.send(OWNER, MESSAGE + b"more\r\n" * 1_000_000, handing_over)
    assert outcome.fate is Fate.LATER
    assert asked == []


def test_a_server_that_says_yes_before_it_was_asked_is_not_believed() -> None:
    with talking() as (told, delivery):
        told.script = {"DATA": ["354 go on\r\n250 queued"]}
        outcome = send(delivery)
    assert outcome == Outcome(Fate.LATER, "the server gave up before the message was whole")
    assert told.got == []


def test_an_answer_without_end_is_read_no_further() -> None:
    with talking() as (told, delivery):
        told.script = {"END": [Fault.DRIP]}
        assert send(delivery) == Outcome(Fate.UNKNOWN, "an answer without end")


def test_an_address_that_is_none_is_told() -> None:
    for wrong in ("ä@b.example", "a@b_c.example", f"{'a' * 65}@b.example", f"a@{'b.' * 130}example", "a@-\n.example"):
        with pytest.raises(Problem):
            deliver.address(wrong)
    assert deliver.address("o'neil+x@Acme.example") == "o'neil+x@Acme.example"

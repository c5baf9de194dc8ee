"""When a question is asked again, and when the end is looked at: the network is a function here."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from types import SimpleNamespace
from typing import cast

import pytest

from exposure_scan.conversation import Caller, Conversation, Exchange, Observation
from exposure_scan.model import Authorization, Echo, PortState, Purpose, Question, Target, Vantage
from exposure_scan.sweep import asking
from exposure_scan.sweep.asking import Asking, Told
from exposure_scan.transport import Engine, Gate, Lateness

HOST = "198.51.100.10"
TARGET = Target(ip_address(HOST), (), Authorization(by="practice site"))
AT = datetime(2026, 11, 25, tzinfo=UTC)
SHUT = [Question("tcp", number, "silent") for number in range(1, 21)]
SMTP, UDP, PING = Question("tcp", 25, "greeting"), Question("udp", 53, "dns"), Question("icmp", 0, "echo")

Answer = tuple[PortState | Echo, str, str | None, int]  # state, reason, by, tries
OPEN: Answer = (PortState.OPEN, "syn-ack", HOST, 1)
RST: Answer = (PortState.CLOSED, "rst", HOST, 1)
RST_AT_THE_SECOND: Answer = (PortState.CLOSED, "rst", HOST, 2)
SILENT: Answer = (PortState.FILTERED, "no-response", None, 3)
QUIET: Answer = (PortState.OPEN_FILTERED, "no-response", None, 3)
Network = Callable[[Question, int], Answer]  # the question, and how often it was asked before


def scan(
    monkeypatch: pytest.MonkeyPatch,
    questions: list[Question],
    network: Network,
    *,
    vantage: Vantage | None = None,
    lag: float = 0.0,
) -> list[Told]:
    before: Counter[Question] = Counter()

    async def converse(_: Gate, __: Target, question: Question, conversation: Conversation) -> Exchange:
        conversation.close()
        state, reason, by, tries = network(question, before[question])
        before[question] += 1
        return Exchange(question, state, reason, by, tries, None, Observation(), AT, ())

    monkeypatch.setattr(asking, "converse", converse)

    async def main() -> list[Told]:
        gate = Gate(clock=lambda: AT)
        nobody = cast("Engine", SimpleNamespace(ask=leave_all))
        caller = Caller("exposure-scan/0", "synthetic")
        where = vantage or Vantage(name="synthetic", checked=True)
        return await Asking(gate, nobody, Lateness(lag), TARGET, where, caller, lambda _: None).run(questions)

    return asyncio.run(main())


async def leave_all(_: Target, questions: Sequence[object], _make: object, told: Callable[[int, None], None]) -> None:
    """An engine that leaves every question to the ordinary sockets."""
    for number in range(len(questions)):
        told(number, None)


def times(told: list[Told], question: Question, purpose: Purpose) -> int:
    return sum(one.exchange.question == question and one.purpose == purpose for one in told)


def test_enough_tries_on_an_ordinary_line_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told = scan(monkeypatch, [*SHUT, SMTP], lambda q, _: SILENT if q == SMTP else RST)
    assert times(told, SMTP, "ask") == 1
    assert times(told, SMTP, "again") == 0


def test_on_a_lossy_line_silence_is_asked_again_until_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    told = scan(monkeypatch, [*SHUT, SMTP], lambda q, _: SILENT if q == SMTP else RST_AT_THE_SECOND)
    assert times(told, SMTP, "again") == 3  # half of the tries are lost: 12 tries miss one time in 4,096
    assert all(times(told, question, "again") == 0 for question in SHUT)


def test_an_answer_ends_the_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(question: Question, before: int) -> Answer:
        return RST_AT_THE_SECOND if question != SMTP else OPEN if before else SILENT

    told = scan(monkeypatch, [*SHUT, SMTP], network)
    assert times(told, SMTP, "again") == 1


def test_asking_again_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    hopeless: Answer = (PortState.CLOSED, "rst", HOST, 50)
    told = scan(monkeypatch, [*SHUT, SMTP], lambda q, _: SILENT if q == SMTP else hopeless)
    assert 0 < times(told, SMTP, "again") <= 4


def test_few_answers_are_asked_more_to_measure_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    told = scan(monkeypatch, [SMTP, UDP], lambda q, _: OPEN if q.port == 25 else QUIET)
    assert sum(one.purpose == "loss" for one in told) == 19
    told = scan(monkeypatch, [*SHUT, UDP], lambda q, _: QUIET if q == UDP else RST)
    assert not [one for one in told if one.purpose == "loss"]


def test_a_silence_during_our_own_lag_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    for lag, again in ((0.6, 1), (0.1, 0)):
        told = scan(monkeypatch, [*SHUT, SMTP], lambda q, _: SILENT if q == SMTP else RST, lag=lag)
        assert times(told, SMTP, "again") == again


def test_what_this_machine_could_not_ask_is_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    fault: Answer = (PortState.UNMEASURED, "local-error: No buffer space available", None, 0)
    told = scan(monkeypatch, [*SHUT, SMTP], lambda q, before: RST if q != SMTP or before else fault)
    assert times(told, SMTP, "again") == 1
    told = scan(monkeypatch, [*SHUT, SMTP], lambda q, _: fault if q == SMTP else RST)
    assert times(told, SMTP, "again") == 1


def test_the_first_open_port_is_asked_at_the_end_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocked(question: Question, before: int) -> Answer:
        return (OPEN if before == 0 else SILENT) if question == SMTP else RST if question in SHUT else QUIET

    told = scan(monkeypatch, [*SHUT, SMTP, UDP], blocked)
    assert 1 < times(told, SMTP, "still-there") <= 4

    def shy(question: Question, before: int) -> Answer:
        return (SILENT if before == 1 else OPEN) if question == SMTP else RST if question in SHUT else QUIET

    told = scan(monkeypatch, [*SHUT, SMTP, UDP], shy)
    assert times(told, SMTP, "still-there") == 2
    assert told[-1].exchange.state is PortState.OPEN


def test_where_every_question_was_answered_there_is_no_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    told = scan(monkeypatch, [*SHUT, SMTP], lambda q, _: OPEN if q == SMTP else RST)
    assert not [one for one in told if one.purpose == "still-there"]


def test_ping_stands_in_where_no_port_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    echo: Answer = (Echo.REPLIED, "echo-reply", HOST, 1)
    told = scan(monkeypatch, [PING, SMTP], lambda q, _: echo if q == PING else SILENT)
    assert times(told, PING, "still-there") == 1


def test_a_port_that_this_network_cannot_ask_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(question: Question, _: int) -> Answer:
        assert question != SMTP
        return RST

    told = scan(monkeypatch, [*SHUT, SMTP], network, vantage=Vantage(name="synthetic", blind=("tcp/25",)))
    (one,) = [one for one in told if one.exchange.question == SMTP]
    assert (one.exchange.state, one.exchange.reason) == (PortState.UNMEASURED, "vantage-blind")


def test_a_fault_of_ours_spoils_one_port_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def network(question: Question, _: int) -> Answer:
        if question == SMTP:
            raise RuntimeError("synthetic fault")
        return RST

    told = scan(monkeypatch, [*SHUT, SMTP], network)
    reasons = {one.exchange.reason for one in told if one.exchange.question == SMTP}
    assert reasons == {"our-error: RuntimeError"}
    assert sum(one.exchange.state is PortState.CLOSED for one in told) == len(SHUT)
    assert "synthetic fault" in caplog.text

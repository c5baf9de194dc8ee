"""Drives one conversation over the network and writes down what happened.

Whatever the network does comes out as a value. A conversation never learns whether it talks to a
socket, a capture or a test, and no socket outlives its conversation.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Protocol

from exposure_scan.conversation import (
    Connect,
    Conversation,
    Event,
    Exchange,
    Heard,
    Observation,
    Receive,
    Reply,
    Request,
    Send,
    StartTls,
)
from exposure_scan.model import Echo, PortState, Question, Target

from .carrier import LOST
from .datagrams import Datagrams
from .echo import Echoes, system_ping
from .gate import Gate
from .journal import DEADLINE, NO_RESPONSE, Answer, Journal, local_error
from .stream import Stream
from .talk import judged

_ENOUGH_REQUESTS = 1000  # after the deadline; a conversation that wants more does not end


class _Line(Protocol):
    """What a conversation is driven over."""

    tries: int

    async def connect(self) -> Reply: ...
    async def send(self, data: bytes) -> None: ...
    async def receive(self, request: Receive) -> Heard: ...
    async def secure(self, request: StartTls, /) -> Reply: ...


async def converse(
    gate: Gate, target: Target, question: Question, conversation: Conversation, *, deadline: float = DEADLINE
) -> Exchange:
    """Ask one question, in the words of `conversation`.

    Args:
        gate: where the target was admitted.
        target: whom to ask.
        question: which port; what is asked there is the conversation's matter.
        conversation: a fresh one.
        deadline: seconds from the first packet to the end; time in the gate's queue is not counted.

    Raises:
        NotAuthorized: the gate refused, now or in the middle.
        Exception: whatever the conversation itself raises. What the network does raises nothing.
    """
    carrier = gate.carriers.towards(target.address)
    try:
        async with gate.consented(target):
            journal = Journal(gate, target, deadline)
            if carrier is not None and not carrier.there:
                return _unplugged(journal.exchange(question, Answer(PortState.UNMEASURED, ""), 0, Observation()))
            exchange = await _OVER[question.transport](journal, question, conversation)
    finally:
        conversation.close()
    if exchange.reason == NO_RESPONSE and not gate.carriers.held(carrier):
        return _unplugged(exchange)
    return exchange


async def _over_tcp(journal: Journal, question: Question, conversation: Conversation) -> Exchange:
    with closing(Stream(journal, question.port)) as stream:
        observation = await _drive(conversation, stream, journal)
        await stream.leave()
    answer = stream.answer or Answer(PortState.UNMEASURED, "not-asked")
    return journal.exchange(question, answer, stream.tries, observation)


async def _over_udp(journal: Journal, question: Question, conversation: Conversation) -> Exchange:
    with closing(Datagrams(journal, question.port, question.ttl)) as line:
        observation = await _drive(conversation, line, journal)
    answer = judged(observation, journal, line.local, line.fault, line.tries, line.rtt_ms, line.elsewhere)
    return journal.exchange(question, answer, line.tries, observation)


async def _over_icmp(journal: Journal, question: Question, conversation: Conversation) -> Exchange:
    with closing(Echoes(journal)) as line:
        observation = await _drive(conversation, line, journal)
    answer, tries = line.judge(observation), line.tries
    if not line.allowed:
        answer, tries = await system_ping(journal)
        # ping tells no bytes. A record that shows only silence says that it asked.
        journal.events[:] = [Event(0.0, "silent")] if answer.state is Echo.SILENT else []
    elif answer.state is Echo.UNMEASURED:
        journal.events.clear()  # a record would say that silence was measured
    return journal.exchange(question, answer, tries, observation)


def _unplugged(exchange: Exchange) -> Exchange:
    """The silence of a host that could not be heard."""
    state = Echo.UNMEASURED if exchange.question.transport == "icmp" else PortState.UNMEASURED
    reason = local_error(LOST)
    events = (event._replace(detail=reason) if event.what == "not-connected" else event for event in exchange.events)
    return replace(exchange, state=state, reason=reason, events=tuple(events))


_OVER = {"tcp": _over_tcp, "udp": _over_udp, "icmp": _over_icmp}


async def _drive(conversation: Conversation, line: _Line, journal: Journal) -> Observation:
    """Run the conversation to its end."""
    late = 0
    try:
        request = next(conversation)
        while True:
            reply = await _answer(line, request)
            late += journal.over
            if late > _ENOUGH_REQUESTS:
                raise RuntimeError("the conversation goes on after its time without an end")
            request = conversation.send(reply)
    except StopIteration as end:
        observation: Observation = end.value
        return observation


async def _answer(line: _Line, request: Request) -> Reply:
    if isinstance(request, Connect):
        return await line.connect()
    if isinstance(request, Send):
        await line.send(request.data)
        return None
    if isinstance(request, Receive):
        return await line.receive(request)
    return await line.secure(request)

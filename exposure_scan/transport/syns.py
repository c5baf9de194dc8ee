"""A host whose questions the engine asks, and one of its TCP ports: SYNs, and what comes of them."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from exposure_scan.conversation import Conversation, Exchange, NotConnected, Observation, endpoint_text
from exposure_scan.model import PortState, Question, Target

from . import segments
from .gate import Gate
from .icmp import PORT_UNREACHABLE, IcmpError
from .journal import (
    DEADLINE,
    MOMENT,
    NO_RESPONSE,
    NO_ROOM,
    RST,
    SYN_ACK,
    UNHEARD,
    Answer,
    Journal,
    judge_icmp,
    local_error,
)
from .talk import Talk

GAPS = (0.5, 0.6)  # seconds between the tries at a silent TCP port: three SYNs
# From which of our ports each try leaves: a firewall may want to see a SYN twice before it lets the flow pass, and a
# way of several lines may lose one flow for ever and carry the next.
_PORT_OF_TRY = (0, 0, 1)
PORTS = max(_PORT_OF_TRY) + 1
_LAST_WAIT = 1.0  # seconds for the answer to the last of them

Make: TypeAlias = Callable[[int], Conversation]
Done: TypeAlias = Callable[[int, "Exchange | None"], None]


class Sender(Protocol):
    """What a port needs of the engine."""

    gate: Gate

    def queue(self, asked: Asked, send: Callable[[], None]) -> None:
        """Call `send` when the host's pace, and everybody's, has a place."""

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call back after so long, or a little later."""

    def emit_syn(self, packet: bytes, target: Target) -> None:
        """Send a packet with its IP header."""


@dataclass(slots=True)
class Asked:
    """A host whose questions are under way."""

    target: Target
    source: str  # our address towards it
    syns: segments.SynTemplate
    make: Make
    told: Done
    deaf: Callable[[], bool]  # something may have gone unheard since the asking began
    left: int
    over: asyncio.Future[None]
    queue: deque[Callable[[], None]] = field(default_factory=deque)
    waiting: bool = False  # it stands among those that want to send, or waits for its pace
    open: dict[int, Syns | Talk] = field(default_factory=dict)

    def done(self, number: int, exchange: Exchange | None) -> None:
        """A question is settled; with None, or unheard, it is left to the ordinary sockets.

        So is a silence in which the shared sockets were too full to hear: one host's flood must not silence others.
        And one in which the cable was out.
        """
        self.open.pop(number, None)
        if exchange is not None and exchange.reason == NO_RESPONSE and self.deaf():
            exchange = replace(exchange, state=PortState.UNMEASURED, reason=UNHEARD)
        self.told(number, exchange)
        self.left -= 1
        if not self.left and not self.over.done():
            self.over.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Nothing more can be asked."""
        if not self.over.done():
            self.over.set_exception(error)


class Syns:
    """A TCP port that is asked whether it takes a connection."""

    __slots__ = (
        "_asked", "_engine", "_journal", "_loop", "_number", "_ports", "_sent_at", "_tries", "question",
        "sequence",
    )  # fmt: skip

    def __init__(
        self, engine: Sender, asked: Asked, number: int, question: Question, local_ports: tuple[int, ...]
    ) -> None:
        self.question = question
        self.sequence = secrets.randbits(32)
        self._engine, self._asked, self._number = engine, asked, number
        self._journal = Journal(engine.gate, asked.target, DEADLINE)
        self._ports = local_ports
        self._tries = 0
        self._sent_at = 0.0
        self._loop = asyncio.get_running_loop()

    def send(self) -> None:
        """One more SYN goes out."""
        if self._number not in self._asked.open:
            return
        local_port = self._ports[_PORT_OF_TRY[self._tries]]
        packet = self._asked.syns.syn(local_port, self.question.port, self.sequence)
        try:
            self._engine.emit_syn(packet, self._asked.target)
        except OSError as error:
            if error.errno not in NO_ROOM or self._journal.over:
                self._end(Answer(PortState.UNMEASURED, local_error(error)))
            else:
                self._later(MOMENT)
            return
        if not self._tries:
            self._journal.start()
        self._journal.note("asking", detail=self._ends(local_port))
        self._sent_at = self._loop.time()
        self._tries += 1
        if self._tries <= len(GAPS):
            self._later(GAPS[self._tries - 1])
        else:
            self._engine.later(self._journal.patience(_LAST_WAIT), self._silent)

    def _later(self, seconds: float) -> None:
        self._engine.later(seconds, self._queue)

    def _queue(self) -> None:
        if self._number in self._asked.open:
            self._engine.queue(self._asked, self.send)

    def _ends(self, local_port: int) -> str:
        near, far = (self._asked.source, local_port), (str(self._asked.target), self.question.port)
        return f"{endpoint_text(near)} {endpoint_text(far)}"

    def heard(self, reply: segments.Reply) -> None:
        """The host's own answer: it accepts, or refuses."""
        rtt_ms = None
        if self._tries == 1:  # else it may answer an earlier try (Karn's algorithm)
            rtt_ms = (self._loop.time() - self._sent_at) * 1000
            self._engine.gate.note_rtt(self._asked.target, rtt_ms / 1000)
        if reply.accepts:
            self._journal.note("connected", detail=self._ends(reply.local_port))
            self._end(Answer(PortState.OPEN, SYN_ACK, str(self._asked.target), rtt_ms))
        elif reply.refuses:
            self._end(Answer(PortState.CLOSED, RST, str(self._asked.target), rtt_ms))

    def refused(self, error: IcmpError) -> None:
        """An ICMP error came about a SYN. A router's may pass with the next packet; the host's own word stands."""
        self._journal.note_icmp([error])
        if error.reason == PORT_UNREACHABLE and error.offender == self._asked.target.address:
            self._silent()

    def _silent(self) -> None:
        told = judge_icmp(self._journal.icmp, self._asked.target.address, self._asked.source)
        self._end(told or Answer(PortState.FILTERED, NO_RESPONSE))

    def _end(self, answer: Answer) -> None:
        if self._number not in self._asked.open:
            return
        observation = Observation()
        if answer.state is not PortState.OPEN:
            self._journal.note("not-connected", detail=answer.reason)
            try:
                observation = _not_connected(self._asked.make(self._number), answer.reason)
            except Exception:  # a fault of ours: the ordinary sockets ask again, and tell of it
                self._asked.done(self._number, None)
                return
        self._asked.done(self._number, self._journal.exchange(self.question, answer, self._tries, observation))


def _not_connected(conversation: Conversation, reason: str) -> Observation:
    """What a conversation concludes when there is no connection."""
    try:
        next(conversation)
        while True:
            conversation.send(NotConnected(reason))
    except StopIteration as end:
        observation: Observation = end.value
        return observation

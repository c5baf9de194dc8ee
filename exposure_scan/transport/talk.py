"""A datagram conversation over a socket that many share: what `datagrams` does with one socket for each.

It is driven by what happens: a place in the queue, a datagram, an ICMP error, the end of a wait.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from exposure_scan.conversation import (
    Connect,
    Connected,
    Conversation,
    End,
    Exchange,
    Heard,
    NotSecured,
    Observation,
    Receive,
    Reply,
    Send,
    What,
    endpoint_text,
)
from exposure_scan.model import Address, PortState, Question, Target

from .icmp import IcmpError
from .journal import MOMENT, NO_RESPONSE, NO_ROOM, UNHEARD, Answer, Journal, judge_icmp, local_error

log = logging.getLogger("exposure_scan")

_ENDS: dict[End, What] = {End.SILENT: "silent", End.RESET: "reset", End.LIMIT: "limit"}
_MOST_EARLY = 64  # datagrams that are kept for the next wait; what floods us loses the rest
_EARLY = 1e-6  # seconds that a timer may come before its time
_WEIGHT = 28  # bytes that each datagram weighs beside its content, so that a flood of empty ones ends
_TTL, _HOP_LIMIT = 2, 52  # linux/in.h IP_TTL, linux/in6.h IPV6_HOPLIMIT


class Line(Protocol):
    """What a talk needs of the socket that it shares."""

    local_port: int

    def queue(self, send: Callable[[], None]) -> None:
        """Call `send` when the host's pace has a place."""

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call back after so long, or a little later."""

    def emit(self, data: bytes, port: int, ancillary: list[tuple[int, int, bytes]]) -> None:
        """Send a datagram to the host.

        Raises:
            OSError: it did not go out.
        """


class Talk:
    """One conversation. `done` is called once, with what came of it; with None where the fault is ours."""

    __slots__ = (
        "_conversation", "_data", "_done", "_early", "_fault", "_journal", "_last_sent", "_line", "_loop", "_over",
        "_refused", "_rtt_ms", "_source", "_target", "_until", "_waiting", "_weight", "question", "tries",
    )  # fmt: skip

    def __init__(
        self,
        line: Line,
        journal: Journal,
        ends: tuple[str, Target],
        question: Question,
        conversation: Conversation,
        done: Callable[[Exchange | None], None],
    ) -> None:
        self.question = question
        self._line, self._journal, self._conversation, self._done = line, journal, conversation, done
        self._source, self._target = ends
        self._waiting: Receive | None = None
        self._early: deque[bytes] | None = None  # came while nobody waited: a socket would keep them
        self._until = 0.0  # the end of the wait
        self.tries = 0  # datagrams that went out
        self._weight = 0
        self._last_sent = 0.0
        self._rtt_ms: float | None = None
        self._refused = False
        self._fault: str | None = None
        self._over = False
        self._data = b""
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Begin; the socket is there already."""
        self._safely(self._start)

    def _safely(self, step: Callable[..., None], *words: object) -> None:
        """Go a step. Nobody waits for it, so a fault of ours in it would be lost, and the question with it."""
        try:
            step(*words)
        except Exception:  # the ordinary sockets ask again, and tell of the fault
            log.debug("%s: a fault in a conversation", self.question, exc_info=True)
            self.cancel()
            self._done(None)

    def _start(self) -> None:
        request = next(self._conversation)
        if not isinstance(request, Connect):
            raise TypeError(f"a conversation in datagrams begins with Connect, not with {request}")
        self._go_on(Connected(*self._ends()))

    def _ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        return (self._source, self._line.local_port), (str(self._target), self.question.port)

    def cancel(self) -> None:
        """End without a result."""
        self._over = True
        self._conversation.close()

    # --- what the conversation asks --------------------------------------------------------------

    def _go_on(self, reply: Reply) -> None:
        while not self._over:
            try:
                request = self._conversation.send(reply)
            except StopIteration as end:
                self._end(end.value)
                return
            if isinstance(request, Send):
                if self.tries and self._journal.over:
                    reply = None
                    continue
                self._data = request.data
                self._line.queue(self._sends)
                return
            if isinstance(request, Receive):
                reply = self._receive(request)
                if reply is None:
                    return
                continue
            reply = NotSecured("not a stream")

    def _queue(self) -> None:
        self._line.queue(self._sends)

    def _sends(self) -> None:
        self._safely(self._send)

    def _send(self) -> None:
        """The place in the queue has come."""
        if self._over:
            return
        ancillary = []
        if (ttl := self.question.ttl) is not None:
            level, name = (socket.IPPROTO_IP, _TTL)
            if self._target.address.version == 6:
                level, name = (socket.IPPROTO_IPV6, _HOP_LIMIT)
            ancillary = [(level, name, struct.pack("=i", ttl))]
        fault = None
        try:
            self._line.emit(self._data, self.question.port, ancillary)
        except OSError as error:
            if error.errno in NO_ROOM and not self._journal.over:
                self._line.later(MOMENT, self._queue)
                return
            fault = local_error(error)
        if not self._journal.events:  # the time in the queue does not count
            self._journal.start()
            local, peer = self._ends()
            self._journal.note("connected", detail=f"{endpoint_text(local)} {endpoint_text(peer)}")
        if fault is None:
            self.tries += 1
            self._last_sent = self._loop.time()
            self._journal.note("sent", self._data)
        else:
            self._fault = fault
            self._journal.note("reset")
        self._go_on(None)

    def _receive(self, request: Receive) -> Heard | None:
        if not self.tries or self._journal.over:
            return self._ended(End.SILENT)
        self._waiting, self._weight = request, 0
        heard = None
        while self._early and heard is None:
            heard = self._take(self._early.popleft())
        if heard is None and self._refused:
            self._refused = False
            heard = self._ended(End.RESET)
        if heard is not None:
            self._waiting = None
            return heard
        seconds = self._journal.patience(request.seconds) if request.prompt else request.seconds
        now = self._loop.time()
        self._until = min(now + seconds, self._journal.until)
        self._line.later(self._until - now if self._until == self._journal.until else seconds, self._late)
        return None

    def _take(self, data: bytes) -> Heard | None:
        """A datagram for the wait that is on; what the wait is told if it ends with it."""
        assert self._waiting is not None
        self._journal.note("received", data)
        if self._waiting.enough(data):
            if self._rtt_ms is None and self.tries:
                self._rtt_ms = (self._loop.time() - self._last_sent) * 1000
                if self.tries == 1:  # else it may answer an earlier try (Karn's algorithm)
                    self._journal.gate.note_rtt(self._target, self._rtt_ms / 1000)
            return Heard(data, End.ENOUGH)
        self._weight += len(data) + _WEIGHT
        return self._ended(End.LIMIT) if self._weight > self._waiting.limit else None

    # --- what happens ----------------------------------------------------------------------------

    def heard(self, data: bytes) -> None:
        """A datagram came from the port that was asked."""
        self._safely(self._heard, data)

    def _heard(self, data: bytes) -> None:
        if self._over:
            return
        if self._waiting is None:
            self._early = self._early or deque(maxlen=_MOST_EARLY)
            self._early.append(data)
        elif (heard := self._take(data)) is not None:
            self._wake(heard)

    def refused(self, error: IcmpError, quoted: bytes) -> None:
        """An ICMP error came about a datagram of ours, and quotes so much of its words."""
        self._safely(self._told_of, error, quoted)

    def _told_of(self, error: IcmpError, quoted: bytes) -> None:
        if self._over or not self.tries:
            return
        if error.refuses and self.question.ttl is None and not self._is_quoted(quoted):
            self.unheard()
        elif not self._journal.note_icmp([error]):
            pass
        elif self._waiting is None:
            self._refused = True
        else:
            self._wake(self._ended(End.RESET))

    def unheard(self) -> None:
        """End, with a record of what was asked that shows nothing: a socket of its own has to ask again."""
        self.cancel()
        exchange = self._journal.exchange(
            self.question, Answer(PortState.UNMEASURED, UNHEARD), self.tries, Observation()
        )
        self._done(exchange)

    def _is_quoted(self, quoted: bytes) -> bool:
        """Whether the error knows what we said.

        Everybody who was asked knows the port of the shared socket and could refuse in another's name; only words
        of ours show that the error is about a datagram of ours. A socket of its own, whose port nobody else
        knows, asks again where they are missing.
        """
        return self._data.startswith(quoted) and bool(quoted or not self._data)

    def _late(self) -> None:
        self._safely(self._silent)

    def _silent(self) -> None:
        """The wait is over, if it is still the one that was to end now."""
        if self._waiting is not None and not self._over and self._loop.time() >= self._until - _EARLY:
            self._wake(self._ended(End.SILENT))

    def _wake(self, heard: Heard) -> None:
        self._waiting = None
        self._go_on(heard)

    def _ended(self, end: End) -> Heard:
        self._journal.note(_ENDS[end])
        return Heard(b"", end)

    def _end(self, observation: Observation) -> None:
        self._over = True
        answer = judged(observation, self._journal, self._source, self._fault, self.tries, self._rtt_ms)
        self._done(self._journal.exchange(self.question, answer, self.tries, observation))


def judged(
    observation: Observation,
    journal: Journal,
    local: str | None,
    fault: str | None,
    tries: int,
    rtt_ms: float | None,
    elsewhere: str | None = None,
) -> Answer:
    """What a UDP port turned out to be.

    Args:
        observation: what the conversation concluded.
        journal: with the ICMP errors.
        local: the address that was sent from.
        fault: why this machine could not ask, if it could not.
        tries: datagrams that went out.
        rtt_ms: from the last of them to the answer.
        elsewhere: the reason, where somebody answered whom we had not asked.
    """
    address: Address = journal.target.address
    if observation.valid or observation.answered:
        return Answer(PortState.OPEN, "udp-reply", str(address), rtt_ms)
    if elsewhere is not None:
        return Answer(PortState.UNMEASURED, elsewhere)
    if (told := judge_icmp(journal.icmp, address, local)) is not None:
        return told
    if fault is not None:
        return Answer(PortState.UNMEASURED, fault)
    if not tries:
        return Answer(PortState.UNMEASURED, "not-asked")
    return Answer(PortState.OPEN_FILTERED, NO_RESPONSE)

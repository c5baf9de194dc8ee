"""What one conversation leaves behind: its events in order, and the time that it has left."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from exposure_scan.conversation import Event, Exchange, Observation, What
from exposure_scan.model import Address, Echo, PortState, Question, Target

from .gate import Gate
from .icmp import PORT_UNREACHABLE, IcmpError

DEADLINE = 20.0  # seconds from the first packet of a conversation to its end
NO_ROOM = frozenset({errno.EAGAIN, errno.ENOBUFS})  # the way out of this machine is full just now
MOMENT = 0.01  # seconds until it is tried again
_MOST_ERRORS = 64  # ICMP errors that are kept of one conversation: a flood of them says nothing new
UNHEARD = "unheard"  # asked over a shared socket on which an answer could not be told from others' doing
SYN_ACK, RST, NO_RESPONSE = "syn-ack", "rst", "no-response"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a port, or an echo, turned out to be."""

    state: PortState | Echo
    reason: str
    by: str | None = None
    rtt_ms: float | None = None


def local_error(error: OSError | str) -> str:
    """The reason where this machine, not the network, was at fault."""
    text = error if isinstance(error, str) else (error.strerror or type(error).__name__)
    return f"local-error: {text}"


class Journal:
    """Events with their times. The deadline counts from the first packet, not from the queue before it."""

    __slots__ = (
        "_loop", "_seconds", "_started", "_zero", "at", "enciphered", "events", "gate", "icmp", "keys", "target",
        "until",
    )  # fmt: skip

    def __init__(self, gate: Gate, target: Target, seconds: float) -> None:
        self.gate = gate
        self.target = target
        self.events: list[Event] = []
        self.enciphered: list[Event] = []  # what passed the socket of a TLS session
        self.keys: tuple[str, ...] = ()  # that open it
        self.icmp: tuple[IcmpError, ...] = ()
        self.at: datetime = gate.now()
        self._loop = asyncio.get_running_loop()
        self._zero = self._loop.time()
        self._seconds = seconds
        self._started = False
        self.until = self._zero + seconds

    def start(self) -> None:
        """The first packet has just left, or is about to; later calls change nothing."""
        if not self._started:
            self._started = True
            self.at, self._zero = self.gate.now(), self._loop.time()
            self.until = self._zero + self._seconds

    @property
    def over(self) -> bool:
        """Whether the time of the whole conversation has passed."""
        return self._loop.time() >= self.until

    def note(self, what: What, data: bytes = b"", detail: str = "") -> None:
        """Write down what has just happened."""
        self.events.append(Event((self._loop.time() - self._zero) * 1000, what, data, detail))

    def note_enciphered(self, what: What, data: bytes) -> None:
        """Write down what passed the socket of a TLS session, sent or received."""
        if data:
            self.enciphered.append(Event((self._loop.time() - self._zero) * 1000, what, data))

    def note_icmp(self, errors: list[IcmpError]) -> bool:
        """Write down ICMP errors; whether one of them says that a packet did not arrive."""
        for error in errors[: max(0, _MOST_ERRORS - len(self.icmp))]:
            self.note("icmp", detail=error.detail)
            self.icmp += (error,)
        return any(error.refuses for error in errors)

    def patience(self, seconds: float) -> float:
        """How long to wait for what comes at once if it comes: `seconds`, or less on a path that is known."""
        return self.gate.patience(self.target, seconds)

    def exchange(self, question: Question, answer: Answer, tries: int, observation: Observation) -> Exchange:
        """What the conversation leaves behind."""
        return Exchange(
            question=question,
            state=answer.state,
            reason=answer.reason,
            by=answer.by,
            tries=tries,
            rtt_ms=answer.rtt_ms,
            observation=observation,
            at=self.at,
            events=tuple(self.events),
            enciphered=tuple(self.enciphered),
            keys=self.keys,
        )

    async def pace(self, size: int) -> None:
        """Wait for the gate's pace; the conversation does not lose that time."""
        before = self._loop.time()
        await self.gate.pace(self.target, size)
        self.until += self._loop.time() - before


def judge_icmp(errors: Sequence[IcmpError], address: Address, local: str | None) -> Answer | None:
    """What ICMP errors say of the port at `address`, asked from `local`; None if they say nothing.

    Only the host itself can say that a port is closed. An error that our own address sent (the
    neighbour does not answer) is about this machine's network, and measures nothing.
    """
    refusals = [error for error in errors if error.refuses]
    for error in refusals:
        if error.reason == PORT_UNREACHABLE and error.offender == address:
            return Answer(PortState.CLOSED, PORT_UNREACHABLE, str(address))
    for error in refusals:
        if str(error.offender) == local and error.offender != address:
            return Answer(PortState.UNMEASURED, local_error(error.reason))
        return Answer(PortState.FILTERED, error.reason, str(error.offender))
    return None


def endpoint(sockaddr: tuple[object, ...]) -> tuple[str, int]:
    """Address without zone, and port, of what getsockname and getpeername give."""
    return str(sockaddr[0]).split("%")[0], int(str(sockaddr[1]))


async def ready(sock: socket.socket, until: float, *, write: bool = False) -> bool:
    """Wait until the socket can be read (or written), or has an error to tell; False when `until` passes.

    It is looked at once more at the end: what lay there in time counts, however late we come.
    """
    loop = asyncio.get_running_loop()
    if loop.time() < until:
        woken: asyncio.Future[None] = loop.create_future()
        handle = sock.fileno()
        timer = loop.call_at(until, _wake, woken)
        if write:
            loop.add_writer(handle, _wake, woken)
        else:
            loop.add_reader(handle, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()
            if write:
                loop.remove_writer(handle)
            else:
                loop.remove_reader(handle)
    poll = select.poll()
    poll.register(sock, select.POLLOUT if write else select.POLLIN)
    return bool(poll.poll(0))


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)

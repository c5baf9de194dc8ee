"""What a protocol conversation is, and how a recorded one is repeated.

A conversation is a generator without sockets and clocks. It yields what it wants done (`Connect`,
`Send`, `Receive`, `StartTls`), gets told what came of it, and returns an `Observation`. Sockets, a
capture and a test that types bytes all drive the same generator; `replay` below is the driver for
what was recorded. A stage may import this module as it may import `model`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias

from .model import Echo, Evidence, PortState, Purpose, Question, Tls

# --- what a conversation may ask for -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection, or a new one in place of the old; the first step. -> Connected | NotConnected."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes: a piece of the stream, or one datagram. -> None."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for an answer. -> Heard.

    On a stream `enough` sees everything received and not yet returned; on UDP and ICMP it sees each
    datagram alone, and datagrams that it refuses are recorded and passed over.
    `prompt` says that who answers does so at once: in datagrams the wait may then end sooner, when
    the path's round-trip time is known and several of it have passed.
    """

    enough: Callable[[bytes], bool]
    seconds: float
    limit: int = 16384  # bytes
    prompt: bool = False


@dataclass(frozen=True, slots=True)
class StartTls:
    """Begin TLS on the stream; the certificate is read, not checked. -> Secured | NotSecured."""

    seconds: float
    server_name: str | None = None


Request: TypeAlias = Connect | Send | Receive | StartTls

# --- what it is told -----------------------------------------------------------------------------


class End(StrEnum):
    """Why a wait ended."""

    ENOUGH = "enough"
    SILENT = "silent"  # the deadline passed
    CLOSED = "closed"  # the peer ended the stream
    RESET = "reset"  # the peer tore it down, or an ICMP error said that nobody is there
    LIMIT = "limit"  # too many bytes


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection (or the datagram socket) stands. Addresses without brackets or zone."""

    local: tuple[str, int]
    peer: tuple[str, int]


@dataclass(frozen=True, slots=True)
class NotConnected:
    """No connection; `reason` as in a port's reason (rst, no-response, ...)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What a wait brought; `data` is what there is, enough or not."""

    data: bytes
    end: End


@dataclass(frozen=True, slots=True)
class Secured:
    """TLS stands. `certificate` is the leaf in DER form, empty if the peer showed none."""

    version: str  # "TLSv1.3"
    cipher: str
    certificate: bytes


@dataclass(frozen=True, slots=True)
class NotSecured:
    """TLS failed, with the reason in the library's words."""

    reason: str


Reply: TypeAlias = Connected | NotConnected | Heard | Secured | NotSecured | None


@dataclass(frozen=True, slots=True)
class Observation:
    """What a conversation found out: bytes in, values out.

    `said` maps a fingerprint field (``smtp.greeting``, ``http.server``, ...) to the text received,
    decoded without loss of the parts that matter and cut to 1,000 characters a field.
    `answered` is true when the peer said anything at all, understood or not.
    """

    service: str | None = None  # sip, smtp, imap, pop3, ftp, http, dns, ...; None when no protocol was recognised
    banner: str | None = None  # the line a person would read first
    said: Mapping[str, str] = field(default_factory=dict)
    tls: Tls | None = None
    answered: bool = False
    valid: bool = False  # the peer spoke the protocol to the letter that the probe wants
    notes: tuple[str, ...] = ()


Conversation: TypeAlias = Generator[Request, Reply, Observation]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who we are, for the places that protocols have for it."""

    product: str  # "exposure-scan/0.1.0"
    contact: str  # mail address or sentence; ASCII, no line breaks
    secret: bytes = field(default=b"", repr=False)  # the key of the vantage check; never said, only proved

    @property
    def agent(self) -> str:
        """The User-Agent text."""
        return f"{self.product} (authorized security check; {self.contact})"


# --- what was recorded ---------------------------------------------------------------------------

What: TypeAlias = Literal[
    "asking", "connected", "not-connected", "sent", "received", "silent", "closed", "reset", "limit",
    "secured", "not-secured", "icmp", "elsewhere",
]  # fmt: skip

BESIDE: frozenset[What] = frozenset({"asking", "icmp", "elsewhere"})
"""Events that no conversation is told of."""


class Event(NamedTuple):
    """One thing that happened; `detail` holds what is not payload (addresses, reasons, a certificate)."""

    ms: float
    what: What
    data: bytes = b""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question as it was asked and answered: what the port is, and the record that shows it.

    `state` is a `PortState` for tcp and udp and an `Echo` for icmp. `by` is the address that said so
    (the host itself, or a router), None where nobody spoke. `enciphered` is what passed the socket of its
    TLS sessions, and `keys` opens it (lines of an NSS key log): both for a capture, and not in the evidence.
    """

    question: Question
    state: PortState | Echo
    reason: str
    by: str | None
    tries: int
    rtt_ms: float | None
    observation: Observation
    at: datetime
    events: tuple[Event, ...]
    enciphered: tuple[Event, ...] = ()
    keys: tuple[str, ...] = ()

    def evidence(
        self,
        id_: str,
        address: str,
        token: str,
        purpose: Purpose = "ask",
        syn_ack: tuple[int, int] | None = None,
    ) -> Evidence:
        """The record in its JSON form. `syn_ack` is time to live and window of the peer's, where they were seen."""
        return Evidence.model_validate(
            {
                "id": id_,
                "kind": self.question.transport,
                "at": self.at,
                "address": address,
                "port": self.question.port,
                "probe": self.question.probe,
                "purpose": purpose,
                "token": token,
                "state": self.state,
                "reason": self.reason,
                "by": self.by,
                "tries": self.tries,
                "rtt_ms": None if self.rtt_ms is None else round(self.rtt_ms, 3),
                "ttl": syn_ack[0] if syn_ack else None,
                "window": syn_ack[1] if syn_ack else None,
                "sent": _text(event.data for event in self.events if event.what == "sent"),
                "received": _text(event.data for event in self.events if event.what != "sent"),
                "steps": [
                    {"ms": round(event.ms, 3), "what": event.what, "size": len(event.data), "detail": event.detail}
                    for event in self.events
                ],
            }
        )


def events_of(evidence: Evidence) -> list[Event]:
    """The record that `Exchange.evidence` wrote.

    Raises:
        ValueError: its texts and its steps do not fit together.
    """
    streams = {True: unescape(evidence.sent), False: unescape(evidence.received)}
    events = []
    for step in evidence.steps:
        ours = step.what == "sent"
        data, streams[ours] = streams[ours][: step.size], streams[ours][step.size :]
        if len(data) != step.size:
            raise ValueError(f"evidence {evidence.id}: a step is longer than what was kept")
        events.append(Event(step.ms, step.what, data, step.detail))
    if streams[True] or streams[False]:
        raise ValueError(f"evidence {evidence.id}: bytes that belong to no step")
    return events


class ReplayError(Exception):
    """The record does not fit the conversation: other words were sent, or steps are missing."""


def replay(conversation: Conversation, events: Iterable[Event], *, datagrams: bool) -> Observation:
    """Drive `conversation` with a record instead of a network and return what it concludes.

    A capture has no marks for silence: a wait that meets our own next word, or the end of the
    record, was silent.

    Raises:
        ReplayError: the conversation sends other bytes than the record shows.
    """
    record = _Record([event for event in events if event.what not in BESIDE], datagrams)
    try:
        request = next(conversation)
        while True:
            request = conversation.send(record.answer(request))
    except StopIteration as end:
        observation: Observation = end.value
        return observation


class _Record:
    """The events in order, with the part of the stream that was received and not yet asked for."""

    def __init__(self, events: list[Event], datagrams: bool) -> None:
        self._events = events
        self._next = 0
        self._datagrams = datagrams
        self._buffer = b""

    def _peek(self) -> Event | None:
        return self._events[self._next] if self._next < len(self._events) else None

    def _take(self, *what: What) -> Event | None:
        event = self._peek()
        if event is None or event.what not in what:
            return None
        self._next += 1
        return event

    def answer(self, request: Request) -> Reply:
        if isinstance(request, Connect):
            return self._connect()
        if isinstance(request, Send):
            self._send(request)
            return None
        if isinstance(request, Receive):
            return self._receive(request)
        return self._secure()

    def _connect(self) -> Reply:
        while (event := self._peek()) is not None and event.what not in (
            "connected",
            "not-connected",
            "sent",
        ):
            self._next += 1  # what came after the conversation had stopped listening
        self._buffer = b""
        event = self._take("connected", "not-connected")
        if event is None:
            return NotConnected("not in the record")
        if event.what == "not-connected":
            return NotConnected(event.detail)
        local, peer = event.detail.split(" ")
        return Connected(_endpoint(local), _endpoint(peer))

    def _send(self, request: Send) -> None:
        while self._peek() is not None and self._take("received") is not None:
            if not self._datagrams:
                self._buffer += self._events[self._next - 1].data
        self._take("closed", "reset")
        wanted = request.data
        if not wanted:  # an empty datagram is a word, too
            self._take("sent")
        while wanted:
            event = self._take("sent")
            if event is None:
                return  # the record ends, or the peer was gone before our word
            if not wanted.startswith(event.data) or not event.data:
                raise ReplayError(f"the record shows {event.data[:60]!r} where {wanted[:60]!r} would be sent")
            wanted = wanted[len(event.data) :]

    def _receive(self, request: Receive) -> Heard:
        ends: dict[str, End] = {
            "silent": End.SILENT,
            "closed": End.CLOSED,
            "reset": End.RESET,
            "limit": End.LIMIT,
        }
        if self._datagrams:
            while (event := self._take("received", "silent", "closed", "reset", "limit")) is not None:
                if event.what != "received":
                    return Heard(b"", ends[event.what])
                if request.enough(event.data):
                    return Heard(event.data, End.ENOUGH)
            return Heard(b"", End.SILENT)
        while not (self._buffer and request.enough(self._buffer)):
            event = self._take("received", "silent", "closed", "reset", "limit")
            if event is None or event.what != "received":
                heard, self._buffer = self._buffer, b""
                return Heard(heard, ends[event.what] if event else End.SILENT)
            self._buffer += event.data
        heard, self._buffer = self._buffer, b""
        return Heard(heard, End.ENOUGH)

    def _secure(self) -> Reply:
        event = self._take("secured", "not-secured")
        self._buffer = b""
        if event is None:
            return NotSecured("not in the record")
        if event.what == "not-secured":
            return NotSecured(event.detail)
        version, cipher, certificate = event.detail.split(" ")
        return Secured(version, cipher, bytes.fromhex(certificate))


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition("|")
    return host, int(port)


def endpoint_text(endpoint: tuple[str, int]) -> str:
    """``198.51.100.10|5060``: the form in which `connected` events keep an address."""
    return f"{endpoint[0]}|{endpoint[1]}"


# --- bytes as readable text, without loss ---------------------------------------------------------

_UNESCAPE = re.compile(r"\\(x[0-9a-f]{2}|r|n|t|\\)")
_NAMED = {"\\": "\\\\", "\r": "\\r", "\n": "\\n", "\t": "\\t"}
_ESCAPED = tuple(
    _NAMED.get(char) or (char if " " <= char <= "~" else f"\\x{ord(char):02x}") for char in map(chr, range(256))
)


def _text(pieces: Iterable[bytes]) -> str:
    """The pieces as one text. A datagram that was sent three times is written once and said thrice."""
    known: dict[bytes, str] = {}
    return "".join([known.get(piece) or known.setdefault(piece, escape(piece)) for piece in pieces])


def escape(data: bytes) -> str:
    r"""Bytes as text: printable ASCII as it is, the rest as \r \n \t \\ and \xNN. `unescape` reverses it."""
    text = data.decode("latin-1")
    if text.isascii():
        for char, written in _NAMED.items():
            text = text.replace(char, written)
        if text.isprintable():  # most of what is said is text
            return text
    return "".join([_ESCAPED[byte] for byte in data])


def unescape(text: str) -> bytes:
    """The bytes that `escape` wrote.

    Raises:
        ValueError: a character or an escape that `escape` never writes.
    """
    named = {written[1:]: char for char, written in _NAMED.items()}
    plain = _UNESCAPE.sub(lambda m: named.get(m[1]) or chr(int(m[1][1:], 16)), text)
    return plain.encode("latin-1")

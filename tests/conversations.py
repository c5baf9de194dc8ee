"""A peer made of a function, so that a test of a protocol reads like a transcript.

Every talk that is held here is recorded, and repeated from its record: what comes out must be the same.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exposure_scan.conversation import (
    Caller,
    Connect,
    Connected,
    End,
    Event,
    Heard,
    NotConnected,
    NotSecured,
    Observation,
    Receive,
    Reply,
    Request,
    Secured,
    Send,
    StartTls,
    What,
    endpoint_text,
    replay,
)
from exposure_scan.protocols import FIELDS, conversation

CALLER = Caller("exposure-scan/0.1.0", "noc@partner.invalid")
TOKEN = "00c0ffee00c0ffee"
LOCAL = ("198.51.100.250", 40000)
PEER = "198.51.100.10"

# What no peer can make a conversation exceed; `hold` sees to it in every test.
MOST_ASKED = 65_536  # bytes that one wait may ask for
MOST_HEARD = 2 * MOST_ASKED  # bytes of streams, in all
MOST_STEPS = 30  # whatever is asked of the network: connections, words, waits, handshakes
MOST_CONNECTIONS = 4
LONGEST_WAIT = 7.0  # seconds
MOST_WAITED = 30.0  # seconds of waiting that brought nothing, in all

Said = bytes | End  # a piece of what the peer sends, or how it ends the connection
Peer = Callable[["Moment"], Sequence[Said]]  # asked whenever the peer may speak


@dataclass(frozen=True)
class Moment:
    """When the peer may speak: `words` are what it was just sent, empty after a connect or a handshake."""

    connection: int
    secure: bool
    words: bytes


@dataclass
class Talk:
    """How a conversation went."""

    observation: Observation = dataclasses.field(default_factory=Observation)
    sent: list[bytes] = dataclasses.field(default_factory=list)
    connections: int = 0
    steps: int = 0
    heard: int = 0  # bytes of streams
    waited: float = 0.0  # seconds that a silent peer costs
    events: list[Event] = dataclasses.field(default_factory=list)


def silent(_: Moment) -> Sequence[Said]:
    return ()


def hold(
    probe: str,
    peer: Peer = silent,
    *,
    tls: Secured | NotSecured | None = None,
    port: int = 25,
    address: str = PEER,
    local: tuple[str, int] = LOCAL,
    connects: int = 99,
    token: str = TOKEN,
    caller: Caller = CALLER,
) -> Talk:
    """Hold the conversation `probe` with `peer`. `tls` is what comes of every handshake (None: silence)."""
    datagrams = probe in DATAGRAMS
    talk = Talk()
    driver = _Driver(talk, peer, tls, datagrams, local, (address, port), connects)
    conversing = conversation(probe, token, caller)
    try:
        request = next(conversing)
        while True:
            request = conversing.send(driver.answer(request))
    except StopIteration as end:
        talk.observation = end.value
    assert talk.steps <= MOST_STEPS
    assert talk.connections <= MOST_CONNECTIONS
    assert talk.heard <= MOST_HEARD
    assert talk.waited <= MOST_WAITED
    assert set(talk.observation.said) <= FIELDS
    assert all(len(value) <= 1000 for value in talk.observation.said.values())
    again = replay(conversation(probe, token, caller), talk.events, datagrams=datagrams)
    assert again == talk.observation
    return talk


DATAGRAMS = {
    "sip-udp", "sip-udp-patient", "dns", "tftp", "ntp", "snmp", "ike", "ike-nat-t", "l2tp", "empty", "hop",
    "vantage-udp", "echo", "echo6",
}  # fmt: skip


class _Driver:
    def __init__(
        self,
        talk: Talk,
        peer: Peer,
        tls: Secured | NotSecured | None,
        datagrams: bool,
        local: tuple[str, int],
        remote: tuple[str, int],
        connects: int,
    ) -> None:
        self.talk, self.peer, self.tls, self.datagrams = talk, peer, tls, datagrams
        self.local, self.remote, self.connects = local, remote, connects
        self.secure = False
        self.waiting: list[Said] = []
        self.ended: End | None = None

    def note(self, what: What, data: bytes = b"", detail: str = "") -> None:
        self.talk.events.append(Event(0.0, what, data, detail))

    def speak(self, words: bytes) -> None:
        self.waiting += self.peer(Moment(self.talk.connections, self.secure, words))

    def answer(self, request: Request) -> Reply:
        self.talk.steps += 1
        assert self.talk.steps <= MOST_STEPS, "it goes on for ever"
        if isinstance(request, Connect):
            return self.connect()
        if isinstance(request, Send):
            self.talk.sent.append(request.data)
            self.note("sent", request.data)
            self.speak(request.data)
            return None
        if isinstance(request, StartTls):
            return self.start_tls(request)
        assert 0 < request.limit <= MOST_ASKED
        assert 0 < request.seconds <= LONGEST_WAIT
        return self.receive(request)

    def connect(self) -> Reply:
        if self.talk.connections >= self.connects:
            self.note("not-connected", detail="rst")
            return NotConnected("rst")
        self.talk.connections += 1
        self.secure, self.waiting, self.ended = False, [], None
        self.note("connected", detail=f"{endpoint_text(self.local)} {endpoint_text(self.remote)}")
        self.speak(b"")
        return Connected(self.local, self.remote)

    def start_tls(self, request: StartTls) -> Reply:
        self.waiting = []
        if isinstance(self.tls, Secured):
            self.secure = True
            detail = f"{self.tls.version} {self.tls.cipher} {self.tls.certificate.hex()}"
            self.note("secured", detail=detail)
            self.speak(b"")
            return self.tls
        if self.tls is None:
            self.talk.waited += request.seconds
        why = self.tls or NotSecured("no-response")
        self.note("not-secured", detail=why.reason)
        self.ended = End.CLOSED
        return why

    def receive(self, request: Receive) -> Heard:
        buffer = b""
        while self.waiting and self.ended is None:
            piece = self.waiting.pop(0)
            if isinstance(piece, End):
                if self.datagrams:
                    self.note("reset")
                    return Heard(b"", End.RESET)
                self.ended = piece
                break
            if self.datagrams:
                self.note("received", piece)
                if request.enough(piece):
                    return Heard(piece, End.ENOUGH)
                continue
            piece, rest = piece[: request.limit - len(buffer)], piece[request.limit - len(buffer) :]
            if rest:
                self.waiting.insert(0, rest)
            self.note("received", piece)
            buffer += piece
            self.talk.heard += len(piece)
            if request.enough(buffer):
                return Heard(buffer, End.ENOUGH)
            if len(buffer) >= request.limit:
                self.note("limit")
                return Heard(buffer, End.LIMIT)
        if self.ended is not None:
            self.note("closed" if self.ended is End.CLOSED else "reset")
            return Heard(buffer, self.ended)
        self.note("silent")
        self.talk.waited += request.seconds
        return Heard(buffer, End.SILENT)


def crumbs(data: bytes) -> list[Said]:
    """The same bytes, one at a time."""
    return [data[n : n + 1] for n in range(len(data))]


# --- SIP, whose answers are made of the request ---------------------------------------------------


def field(message: bytes, name: str) -> str:
    """The value of a field of one of our requests."""
    found = re.search(rf"^{name}: ([^\r]*)\r$".encode(), message, re.MULTILINE)
    assert found is not None, name
    return found[1].decode()


def reply(
    request: bytes,
    status: str = "200 OK",
    *,
    via: str = "",
    more: str = "",
    names: tuple[str, str] = ("Via", "Call-ID"),
) -> bytes:
    """A synthetic answer that returns what RFC 3261, section 8.2.6, says must be returned."""
    return (
        f"SIP/2.0 {status}\r\n{names[0]}: {field(request, 'Via').replace(';rport', ';rport=40000')}{via}\r\n"
        f"{names[1]}: {field(request, 'Call-ID')}\r\n"
        f"From: {field(request, 'From')}\r\nTo: {field(request, 'To')};tag=lab\r\nCSeq: 1 OPTIONS\r\n"
        f"{more}Content-Length: 0\r\n\r\n"
    ).encode()


def phone(*make: Callable[[bytes], Said]) -> Callable[[Moment], Sequence[Said]]:
    """Says all of `make` to each OPTIONS, and nothing else."""
    return lambda moment: [m(moment.words) for m in make] if moment.words.startswith(b"OPTIONS ") else []


# --- answers that several tests give -------------------------------------------------------------


def ber(tag: int, *content: bytes) -> bytes:
    data = b"".join(content)
    return bytes((tag, 0x81, len(data))) + data  # the long form, as some agents write it


def snmp_answer(request: bytes, engine: bytes = bytes.fromhex("8000967404") + b"lab") -> bytes:
    """A report (RFC 3414, section 4) to the message id that stands behind the version in the request."""
    at = request.index(b"\x02\x01\x03") + 5
    message_id = request[at : at + 2 + request[at + 1]]
    number, nothing = b"\x02\x01\x00", b"\x04\x00"
    header = ber(0x30, message_id, b"\x02\x03\x00\xff\xe3", b"\x04\x01\x00", b"\x02\x01\x03")
    security = ber(0x30, ber(4, engine), number, number, nothing, nothing, nothing)
    counter = ber(0x30, b"\x06\x0a\x2b\x06\x01\x06\x03\x0f\x01\x01\x04\x00", b"\x41\x01\x05")
    report = ber(0xA8, number, number, number, ber(0x30, counter))
    return ber(0x30, b"\x02\x01\x03", header, ber(4, security), ber(0x30, ber(4, engine), nothing, report))

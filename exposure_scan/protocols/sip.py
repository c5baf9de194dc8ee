"""SIP: one OPTIONS request to the letter of RFC 3261, and only an answer that is surely to it counts.

Many things speak on SIP's ports; "SIP is reachable" is said only where a status line comes back with
our own Via branch and Call-ID.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from exposure_scan.conversation import Caller, Connected, Observation, Reply, Request, Send

from .datagram import ask
from .line import Line
from .words import LONGEST, NAME, OUR_HOST, first_line, host, printable, text, unique

MARK = b"SIP/2.0 "
_COOKIE = "z9hG4bK"  # RFC 3261, section 8.1.1.7
_WAITS = (0.5, 1.0, 1.2)  # seconds between the tries: timer E (section 17.1.2.2), then the rest of 2.7 s
_LONGEST_MESSAGE = 65536
_MOST_MESSAGES = 50  # of one answer on a stream

_STATUS_LINE = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2})(?: [^\r\n]*)?$")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_COMPACT = {"v": "via", "i": "call-id", "f": "from", "t": "to", "l": "content-length", "m": "contact"}
_KEPT = ("server", "user-agent", "allow", "contact", "via", "www-authenticate")
_ADDRESS = re.compile(r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w]|\.[0-9])")
_RECEIVED = re.compile(r";\s*received\s*=\s*([0-9.]+)", re.IGNORECASE)
_PRIVATE = tuple(  # RFC 1918 and RFC 6598
    IPv4Network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)


@dataclass(frozen=True, slots=True)
class _Message:
    """One SIP message: its first line and its fields by full lower-case name."""

    start: bytes
    fields: dict[str, list[str]]

    @property
    def status(self) -> str | None:
        """The status code, None for a request or what is no SIP."""
        found = _STATUS_LINE.match(self.start)
        return found[1].decode("ascii") if found else None

    def first(self, name: str) -> str:
        return self.fields.get(name, [""])[0]


@dataclass(slots=True)
class _Dialogue:
    """Our request, and what came that concerns it."""

    connected: Connected
    caller: Caller
    token: str
    transport: str  # "udp", "tcp" or "tls"
    number: int = 1
    final: _Message | None = None
    provisional: _Message | None = None
    strange: bytes | None = None  # the first thing that was no answer to us
    notes: list[str] = field(default_factory=list)

    def word(self, purpose: str, size: int = 8) -> str:
        return unique(self.token, f"sip-{purpose}", self.number, size).hex()

    @property
    def branch(self) -> str:
        return _COOKIE + self.word("branch", 12)

    @property
    def call_id(self) -> str:
        return f"{self.word('call-id', 12)}@{OUR_HOST}"

    def request(self) -> bytes:
        """The OPTIONS request (section 11.1; rport RFC 3581). The port stands where it is not the default."""
        address, port = self.connected.peer
        usual = 5061 if self.transport == "tls" else 5060
        parameter = "" if self.transport == "udp" else f";transport={self.transport}"
        remote = host(address) + ("" if port == usual else f":{port}")
        local = f"{host(self.connected.local[0])}:{self.connected.local[1]}"
        us = f"{NAME}@{host(self.connected.local[0])}"
        return (
            "\r\n".join(
                (
                    f"OPTIONS sip:{remote}{parameter} SIP/2.0",
                    f"Via: SIP/2.0/{self.transport.upper()} {local};branch={self.branch};rport",
                    "Max-Forwards: 70",
                    f"To: <sip:{remote}>",
                    f"From: <sip:{us}>;tag={self.word('tag')}",
                    f"Call-ID: {self.call_id}",
                    "CSeq: 1 OPTIONS",
                    f"Contact: <sip:{NAME}@{local}{parameter}>",
                    f"User-Agent: {printable(self.caller.agent)}",
                    "Accept: application/sdp",
                    "Content-Length: 0",
                )
            )
            + "\r\n\r\n"
        ).encode("ascii")

    def take(self, data: bytes) -> bool:
        """Look at one message; true when it is the final answer to our request (section 17.1.3)."""
        message = _parse(data)
        status = message.status
        if status is None or not self._ours(message):
            if self.strange is None:
                self.strange = data
                self.notes.append(_why_not(message))
            return False
        if status.startswith("1"):
            self.provisional = self.provisional or message
            return False
        self.final = message
        return True

    def _ours(self, message: _Message) -> bool:
        found = re.search(r";\s*branch\s*=\s*([^\s;,]+)", message.first("via"), re.IGNORECASE)
        return (
            found is not None
            and found[1].casefold() == self.branch.casefold()
            and message.first("call-id") == self.call_id
        )

    def observation(self) -> Observation:
        """What all that came adds up to."""
        message = self.final or self.provisional
        if message is None:
            if self.strange is None:
                return Observation()
            return Observation(banner=first_line(self.strange), answered=True, notes=tuple(self.notes))
        said = {"sip.status": message.status or ""}
        said |= {f"sip.{name}": ", ".join(message.fields[name])[:LONGEST] for name in _KEPT if message.first(name)}
        banner = text(message.start)
        for name, label in (("server", "Server"), ("user-agent", "User-Agent")):
            if message.first(name):
                banner += f", {label}: {message.first(name)}"
                break
        notes = [*self.notes, *self._private(message)]
        if self.final is None:
            notes.append("Only a provisional SIP answer came, no final one.")
        return Observation("sip", banner[:LONGEST], said, answered=True, valid=True, notes=tuple(notes))

    def _private(self, message: _Message) -> list[str]:
        """Addresses that only exist behind the public one. Our own, if it is private, tells nothing."""
        contact = _ADDRESS.findall(", ".join(message.fields.get("contact", [])))
        received = _RECEIVED.findall(message.first("via"))
        places = [("Contact", address) for address in contact] + [("Via", address) for address in received]
        return [
            f"The SIP answer shows the private address {address} in its {place} field."
            for place, address in dict.fromkeys(places)
            if address != self.connected.local[0] and _is_private(address)
        ][:5]


def _is_private(address: str) -> bool:
    try:
        return any(IPv4Address(address) in network for network in _PRIVATE)
    except ValueError:
        return False


def _why_not(message: _Message) -> str:
    if message.status is not None:
        return "A SIP answer without the Via branch and Call-ID of our request came; it was passed over."
    if message.start.endswith(b" SIP/2.0"):
        return "A SIP request came where an answer to ours was awaited; it was passed over."
    return "What answered the SIP request is no SIP."


def _parse(data: bytes) -> _Message:
    """A message's head; folded lines, compact names and any case are read (section 7.3). Never fails."""
    data = data.lstrip(b"\r\n")
    end = _HEAD_END.search(data)
    head = _FOLD.sub(b" ", data[: end.start()] if end else data)
    start, _, rest = head.partition(b"\n")
    fields: dict[str, list[str]] = {}
    for raw in rest.split(b"\n"):
        name, colon, value = raw.partition(b":")
        if colon:
            key = name.strip().lower().decode("latin-1")
            fields.setdefault(_COMPACT.get(key, key), []).append(text(value.strip()))
    return _Message(start.rstrip(b"\r"), fields)


def _messages(data: bytes) -> Generator[bytes, None, None]:
    """The whole messages at the start of a stream, framed by Content-Length (section 18.3)."""
    for _ in range(_MOST_MESSAGES):
        data = data.lstrip(b"\r\n")
        end = _HEAD_END.search(data)
        if end is None:
            return
        length = _parse(data[: end.end()]).first("content-length")
        body = int(length) if length.isascii() and length.isdigit() and len(length) < 9 else 0
        if len(data) < end.end() + body:
            return
        yield data[: end.end() + body]
        data = data[end.end() + body :]


def sip(line: Line, seconds: float, token: str, caller: Caller) -> Generator[Request, Reply, tuple[Observation, bytes]]:
    """OPTIONS over TCP, or over TLS where the line is secured. Returns what was seen and the first bytes."""

    def dialogue() -> _Dialogue:
        transport = "tls" if line.tls else "tcp"
        return _Dialogue(line.connected, caller, token, transport, line.number)

    def whole(data: bytes) -> bool:
        if not _may_be_sip(data):
            return True
        return _HEAD_END.search(data) is not None and any(dialogue().take(message) for message in _messages(data))

    talk = dialogue()
    yield Send(talk.request())
    data = yield from line.hear(whole, seconds)
    for message in _messages(data) if _may_be_sip(data) else ():
        if talk.take(message):
            break
    if data and talk.final is None and talk.provisional is None and talk.strange is None:
        talk.take(data)  # cut short, or no SIP at all
    return talk.observation(), data


def _may_be_sip(data: bytes) -> bool:
    """Nothing so far rules out SIP: a status line, or the start of a request of the peer's own."""
    start = data.lstrip(b"\r\n")
    if start.startswith(MARK) or MARK.startswith(start[: len(MARK)]):
        return True
    first, ended, _ = start[:2000].partition(b"\n")
    return first.rstrip(b"\r").endswith(b" SIP/2.0") if ended else re.match(rb"[A-Z]+ sips?:", start) is not None


def sip_udp(token: str, caller: Caller) -> Generator[Request, Reply, Observation]:
    """OPTIONS over UDP, sent again as timer E says until an answer, even a provisional one, came."""
    talks: list[_Dialogue] = []

    def request(connected: Connected) -> bytes:
        talks.append(_Dialogue(connected, caller, token, "udp"))
        return talks[0].request()

    def wanted(data: bytes) -> bool:
        return talks[0].take(data[:_LONGEST_MESSAGE])

    def still() -> bool:
        return talks[0].provisional is None

    yield from ask(request, wanted, waits=_WAITS, again=still)
    return talks[0].observation() if talks else Observation()

"""SIP: one OPTIONS request to the letter of RFC 3261, and only an answer that is surely to it counts.

Many things speak on SIP's ports; "SIP is reachable" is said only where a status line comes back with our
own Via branch or Call-ID. Both are unguessable. Where only one came back, something on the way rewrote
the other, and the answer is SIP all the same; `sip_path` says what else was changed.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from exposure_scan.conversation import Caller, Connected, Observation, Reply, Request, Send

from .datagram import ask
from .line import Line
from .sip_message import Message, head_ended, messages, parse
from .sip_path import Path, Sent, let_out, path
from .words import LONGEST, NAME, OUR_HOST, first_line, host, printable, text, unique

MARK = b"SIP/2.0 "
_COOKIE = "z9hG4bK"  # RFC 3261, section 8.1.1.7
WAITS = (0.5, 1.0, 1.2)  # seconds between the tries: timer E (section 17.1.2.2), then the rest of 2.7 s
PATIENT_WAITS = (6.0,)  # for one more request, where everything but SIP has been settled
_LONGEST_MESSAGE = 65536
_KEPT = ("server", "user-agent", "allow", "contact", "via", "www-authenticate")
_BRANCH = re.compile(r";\s*branch\s*=\s*([^\s;,]+)", re.IGNORECASE)
_LONGEST_LINE = 2000
_REQUEST = re.compile(rb"^[A-Za-z]{1,20} [^ ]+ SIP/2\.0$")
_CSEQ = re.compile(r"0*1\s+OPTIONS", re.ASCII)


@dataclass(slots=True)
class _Dialogue:
    """Our request, and what came that concerns it."""

    connected: Connected
    caller: Caller
    token: str
    transport: str  # "udp", "tcp" or "tls"
    number: int = 1
    final: Message | None = None
    provisional: Message | None = None
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

    @property
    def _usual_port(self) -> int:
        return 5061 if self.transport == "tls" else 5060

    def request(self) -> bytes:
        """The OPTIONS request (section 11.1; rport RFC 3581). The port stands where it is not the default."""
        address, port = self.connected.peer
        parameter = "" if self.transport == "udp" else f";transport={self.transport}"
        remote = host(address) + ("" if port == self._usual_port else f":{port}")
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
        message = parse(data)
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

    def _ours(self, message: Message) -> bool:
        """Whether it answers our request: by branch and Call-ID, or by one of them and the CSeq.

        A client knows its answers by the branch (section 17.1.3). An ALG that rewrites it on the way in and not
        on the way back leaves the Call-ID, and the other way round; nobody else can know either.
        """
        call = message.first("call-id") == self.call_id
        vias = ";".join(message.fields.get("via", ()))
        branch = any(word.casefold() == self.branch.casefold() for word in _BRANCH.findall(vias))
        if call and branch:
            return True
        return (call or branch) and _CSEQ.fullmatch(message.first("cseq")) is not None

    def observation(self) -> Observation:
        """What all that came adds up to."""
        message = self.final or self.provisional
        if message is None:
            if self.strange is None:
                return Observation()
            return Observation(banner=first_line(self.strange), answered=True, notes=tuple(self.notes))
        return _seen(message, path(message, self._sent()), self.notes)

    def _sent(self) -> Sent:
        local, peer = self.connected.local, self.connected.peer
        return Sent(local, peer, self._usual_port, self.branch, self.call_id, self.word("tag"))


def _seen(message: Message, way: Path, notes: Iterable[str] = ()) -> Observation:
    """What an answer says, with what it tells of the way."""
    said = {"sip.status": message.status or ""}
    said |= {f"sip.{name}": ", ".join(message.fields[name])[:LONGEST] for name in _KEPT if message.first(name)}
    banner = text(message.start)
    for name, label in (("server", "Server"), ("user-agent", "User-Agent")):
        if message.first(name):
            banner += f", {label}: {message.first(name)}"
            break
    if way.private:
        said["sip.private"] = ", ".join(way.private)[:LONGEST]
    notes = [*notes, *way.notes]
    if said["sip.status"].startswith("1"):
        notes.append("Only a provisional SIP answer came, no final one.")
    return Observation("sip", banner[:LONGEST], said, answered=True, valid=True, notes=tuple(notes))


def read(request: bytes, data: bytes, connected: Connected) -> Observation | None:
    """What `data` says as the answer to somebody else's `request`; None where it is none.

    It answers if CSeq and Call-ID are the request's, or CSeq and a Via branch (RFC 3261, section 8.2.6.2).
    """
    asked, message = parse(request), parse(data)
    if _REQUEST.search(asked.start) is None or message.status is None:
        return None
    call, branch = asked.first("call-id"), asked.vias[0].parameters.get("branch", "") if asked.vias else ""
    theirs = (via.parameters.get("branch", "").casefold() for via in message.vias)
    same = (bool(call) and message.first("call-id") == call) or (bool(branch) and branch.casefold() in theirs)
    if not same or not asked.first("cseq") or message.first("cseq").split() != asked.first("cseq").split():
        return None
    sent = Sent(connected.local, connected.peer, 5060, branch, call, "")
    return _seen(message, let_out(message, sent, request))


def is_request(data: bytes) -> bool:
    """Whether these bytes begin as a request, not as an answer."""
    return _REQUEST.search(data.lstrip(b"\r\n")[:_LONGEST_LINE].partition(b"\n")[0].rstrip(b"\r")) is not None


def _why_not(message: Message) -> str:
    if message.status is not None:
        return "A SIP answer that is none to our request (by Via branch, Call-ID and CSeq) came; it was passed over."
    if message.start.endswith(b" SIP/2.0"):
        return "A SIP request came where an answer to ours was awaited; it was passed over."
    return "What answered the SIP request is no SIP."


def sip(line: Line, seconds: float, token: str, caller: Caller) -> Generator[Request, Reply, tuple[Observation, bytes]]:
    """OPTIONS over TCP, or over TLS where the line is secured. Returns what was seen and the first bytes."""

    def dialogue() -> _Dialogue:
        transport = "tls" if line.tls else "tcp"
        return _Dialogue(line.connected, caller, token, transport, line.number)

    def whole(data: bytes) -> bool:
        if not _may_be_sip(data):
            return True
        return head_ended(data) and any(dialogue().take(message) for message in messages(data))

    talk = dialogue()
    yield Send(talk.request())
    data = yield from line.hear(whole, seconds)
    for message in messages(data) if _may_be_sip(data) else ():
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


def sip_udp(token: str, caller: Caller, waits: tuple[float, ...] = WAITS) -> Generator[Request, Reply, Observation]:
    """OPTIONS over UDP, sent again as timer E says until an answer, even a provisional one, came.

    A server may look up names for seconds before it answers: the path's round trip tells nothing of that.
    """
    talks: list[_Dialogue] = []

    def request(connected: Connected) -> bytes:
        talks.append(_Dialogue(connected, caller, token, "udp"))
        return talks[0].request()

    def wanted(data: bytes) -> bool:
        return talks[0].take(data[:_LONGEST_MESSAGE])

    def still() -> bool:
        return talks[0].provisional is None

    yield from ask(request, wanted, waits=waits, again=still, prompt=False)
    return talks[0].observation() if talks else Observation()

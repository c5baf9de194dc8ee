"""What a host speaks, from a conversation that somebody else had with it.

A browser, a mail client, a phone or another scanner asked in words of their own. Our conversations are held
once more with what was answered to them: the answer to their EHLO is the answer to ours. So the same bytes
give the same observation, whoever asked. Nothing is recognised by its port number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from exposure_scan.conversation import (
    Caller,
    Connected,
    End,
    Event,
    Heard,
    NotSecured,
    Observation,
    Receive,
    Reply,
    Request,
    Send,
    StartTls,
)

from . import handshake, sip_message
from . import http as web
from . import sip as phone
from . import tls as certificates
from .dns import read as read_dns
from .greeting import greeting
from .icmp import read as read_echo
from .ike import read as read_ike
from .l2tp import read as read_l2tp
from .line import STEP, Line, unknown
from .ntp import read as read_ntp
from .snmp import read as read_snmp
from .tftp import read as read_tftp
from .words import first_line, lines

PROBE = "overheard"

_MOST = 65536  # bytes of one direction that are looked at
_MOST_ANSWERS = 100  # datagrams from the host that are looked at
_MOST_REQUESTS = 20  # before each of them
_NOBODY = Connected(("", 0), ("", 0))
_CALLER = Caller("", "")
_CLIENT_HELLO = b"\x16\x03"
_TAGGED = re.compile(rb"(\S{1,60}) +([A-Za-z]+)")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_ENDPOINT = re.compile(r"([0-9A-Fa-f:.]{2,45})\|([0-9]{1,5}) ([0-9A-Fa-f:.]{2,45})\|([0-9]{1,5})", re.ASCII)
_RTP = 2  # the version in the first two bits (RFC 3550, section 5.1)

_STRANGE = "What it said is in no protocol that is known here, or answers nothing that the capture shows."
_REFUSED_TLS = "It answered the TLS handshake, and no session came about."
_Read = Callable[[bytes, bytes], Observation | None]
_READERS: tuple[_Read, ...] = (read_dns, read_snmp, read_ntp, read_ike, read_l2tp, read_tftp)


def overheard(transport: Literal["tcp", "udp", "icmp"], events: Sequence[Event]) -> Observation:
    """What the host of one flow speaks.

    Args:
        transport: of the flow.
        events: `sent` is what went to the host, `received` what came from it; in order.
    """
    if transport == "tcp":
        return _stream(events)
    if transport == "udp":
        return _datagrams(events)
    pairs = (read_echo(*pair) for pair in _pairs(events))
    return next((seen for seen in pairs if seen is not None), Observation())


def begun_by_host(transport: Literal["tcp", "udp", "icmp"], events: Sequence[Event]) -> bool:
    """Whether the host itself began this, before the capture did or by other means: then nothing shows reachability.

    The first datagram to it is an answer (SIP, DNS, NTP), it registers itself there as a phone or a trunk does (who
    is asked for that may call back through any firewall), or it is a call's media (RTP), agreed on elsewhere.
    """
    if transport != "udp":
        return False
    to_host, from_host = _said(events, "sent"), _said(events, "received")
    if not to_host:
        return True
    first, partner = to_host[0], _connected(events).local[1]
    if first.startswith(phone.MARK) or any(data.startswith(b"REGISTER ") for data in from_host):
        return True
    if len(first) >= 12 and partner == 53 and first[2] & 0x80:
        return True
    if len(first) >= 48 and partner == 123 and first[0] & 7 == 4:
        return True
    return _is_media(to_host, from_host) and _answer_in(events) is None


def _is_media(*directions: Sequence[bytes]) -> bool:
    """Both sides send packets of RTP, each from one source."""
    return all(
        len(said) > 1
        and all(len(data) >= 12 and data[0] >> 6 == _RTP for data in said[:10])
        and len({data[8:12] for data in said[:10]}) == 1
        for said in directions
    )


def _said(events: Sequence[Event], what: str) -> list[bytes]:
    return [event.data for event in events if event.what == what]


def _connected(events: Sequence[Event]) -> Connected:
    """The ends; in a flow without a beginning, nobody's."""
    detail = next((event.detail for event in events if event.what == "connected"), "")
    ends = _ENDPOINT.fullmatch(detail)
    return Connected((ends[1], int(ends[2])), (ends[3], int(ends[4]))) if ends else _NOBODY


# --- datagrams -----------------------------------------------------------------------------------


def _pairs(events: Sequence[Event]) -> Iterator[tuple[bytes, bytes]]:
    """Each datagram from the host with each one that went there before it, the latest first."""
    requests: list[bytes] = []
    answers = 0
    for event in events:
        if event.what == "sent":
            requests = [event.data, *requests[: _MOST_REQUESTS - 1]]
        elif event.what == "received" and answers < _MOST_ANSWERS:
            answers += 1
            for request in requests:
                yield request, event.data


def _datagrams(events: Sequence[Event]) -> Observation:
    seen = _answer_in(events)
    if seen is not None:
        return seen
    # A request of the host's own is no answer, whoever it goes to.
    strange = [data for data in _said(events, "received") if data.strip(b"\r\n\0") and not phone.is_request(data)]
    if not strange:
        return Observation()
    return Observation(banner=first_line(strange[0]), answered=True, notes=(_STRANGE,))


def _answer_in(events: Sequence[Event]) -> Observation | None:
    connected = _connected(events)
    calls: list[tuple[bytes, Observation]] = []
    for request, data in _pairs(events):
        if data.lstrip(b"\r\n").startswith(phone.MARK):
            if (call := phone.read(request, data, connected)) is not None:
                calls.append((request, call))
        elif (seen := next((found for read in _READERS if (found := read(request, data))), None)) is not None:
            return seen
    return _best_call(calls)


def _best_call(calls: Sequence[tuple[bytes, Observation]]) -> Observation | None:
    """The answer that tells most of the host: a final one, to OPTIONS if there is one."""

    def order(call: tuple[bytes, Observation]) -> tuple[bool, bool]:
        request, seen = call
        return seen.said["sip.status"].startswith("1"), not request.lstrip(b"\r\n").startswith(b"OPTIONS ")

    return min(calls, key=order)[1] if calls else None


# --- streams -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Turn:
    """What was sent to the host, and what came then."""

    words: bytes = b""
    answer: list[bytes] = field(default_factory=list)

    @property
    def whole(self) -> bytes:
        return b"".join(self.answer)


def _stream(events: Sequence[Event]) -> Observation:
    turns, inside = _turns(events)
    connected = _connected(events)
    said = b"".join(turn.whole for turn in turns)[:_MOST] or inside
    if inside and said is inside and not handshake.is_tls(inside):  # it answered a handshake in plain words
        turns = [_Turn(answer=[inside[:_MOST]])]
    if handshake.is_tls(said):
        session = handshake.overheard(inside or said)
        if session is None:
            return unknown(said, _REFUSED_TLS)
        line = Line(connected, 1, certificates.certificate_facts(session))
        return line.observation(Observation())
    if said.startswith(web.MARK):
        return _web(turns, connected)
    if said.lstrip(b"\r\n").startswith(phone.MARK) or phone.is_request(said):
        return _phone(turns, connected)
    return _greets(turns, inside, connected)


def _turns(events: Sequence[Event]) -> tuple[list[_Turn], bytes]:
    """What was said in turn in plain text, the host's first words first, and what came inside TLS after that."""
    turns = [_Turn()]
    inside = b""
    secure = False
    size = 0
    for event in events:
        if event.what == "sent":
            secure = secure or event.data.startswith(_CLIENT_HELLO)
            if secure:
                continue
            if turns[-1].answer or not turns[-1].words:
                turns.append(_Turn())
            turns[-1].words += event.data
        elif event.what == "received" and size < _MOST:
            size += len(event.data)
            if secure:
                inside += event.data
            else:
                turns[-1].answer.append(event.data)
    return turns, inside


def _web(turns: Sequence[_Turn], connected: Connected) -> Observation:
    """The answer to a request of the first page if there is one, else the first."""
    answers = [turn for turn in turns if turn.whole.startswith(web.MARK)]
    turn = next((turn for turn in answers if turn.words.startswith(b"GET / ")), answers[0])
    data = turn.whole
    while _INTERIM.match(data) and (end := _HEAD_END.search(data)) is not None:
        data = data[end.end() :]
    talk = web.http(Line(connected, 1), STEP, _CALLER)
    return _hold(talk, _Overhearing(lambda _: turn.answer if data == turn.whole else [data]))[0]


def _phone(turns: Sequence[_Turn], connected: Connected) -> Observation:
    """What the host answered; a request of its own is no answer."""
    requests = [*sip_message.messages(b"".join(turn.words for turn in turns)[:_MOST])]
    stream = b"".join(turn.whole for turn in turns)[:_MOST]
    said = [*sip_message.messages(stream)] or [stream]
    answers = [data for data in said if not phone.is_request(data)]
    calls = [
        (request, seen)
        for data in answers
        for request in requests
        if (seen := phone.read(request, data, connected)) is not None
    ]
    return _best_call(calls) or unknown((answers or said)[0], _STRANGE)


def _greets(turns: Sequence[_Turn], inside: bytes, connected: Connected) -> Observation:
    """A host that spoke first, or in words that are not known."""
    line = Line(connected, 1)
    hears = _Overhearing(lambda words: _answer_to(words, turns), inside)
    hears.pieces = next(([*turn.answer] for turn in turns if turn.answer), [])  # perhaps it waited to be spoken to
    seen, first = _hold(greeting(line, STEP), hears)
    return line.observation(_by_other_words(seen, first, turns))


def _answer_to(words: bytes, turns: Sequence[_Turn]) -> list[bytes]:
    """What was answered to the same command of the other's, under our tag where there are tags."""
    tagged = _TAGGED.match(words) if re.match(rb"x[0-9] ", words) else None
    verb = (tagged[2] if tagged else words.split(b" ")[0].strip()).upper()
    for turn in turns:
        theirs = _TAGGED.match(turn.words) if tagged else None
        if tagged is not None and theirs is not None and theirs[2].upper() == verb:
            return [re.sub(rb"(?m)^" + re.escape(theirs[1]) + rb"(?= )", lambda _: tagged[1], turn.whole)]
        if tagged is None and turn.words.split(b" ")[0].strip().upper() == verb:
            return turn.answer
    return []


def _by_other_words(seen: Observation, first: bytes, turns: Sequence[_Turn]) -> Observation:
    """Where nobody said EHLO, the words that were said tell a mail server from a file server."""
    if seen.valid or not first.startswith(b"220"):
        return seen
    for word, answers, service in ((b"HELO", b"250", "smtp"), (b"USER", b"331", "ftp"), (b"USER", b"230", "ftp")):
        if any(answer.startswith(answers) for answer in _answer_to(word, turns)) and seen.service in (None, service):
            said = {f"{service}.greeting": lines(first)[0]} | dict(seen.said)
            return replace(seen, service=service, said=said, valid=True, notes=())
    return replace(seen, notes=()) if not _answer_to(b"EHLO", turns) else seen


# --- a conversation, held with the answers to somebody else --------------------------------------


@dataclass(slots=True)
class _Overhearing:
    """Answers a conversation of ours: what was answered to the like of its words, else silence."""

    answer_to: Callable[[bytes], list[bytes]]
    inside: bytes = b""  # what the host sent of TLS
    pieces: list[bytes] = field(default_factory=list)

    def answer(self, request: Request) -> Reply:
        if isinstance(request, Send):
            self.pieces = [*self.answer_to(request.data)]
            return None
        if isinstance(request, StartTls):
            session = handshake.overheard(self.inside)
            return session or NotSecured("the capture shows no handshake that came to an end")
        if isinstance(request, Receive):
            return self._hear(request)
        raise AssertionError("a conversation within one connection asks for no other")

    def _hear(self, request: Receive) -> Heard:
        data = b""
        while self.pieces:
            data += self.pieces.pop(0)
            if request.enough(data):
                return Heard(data, End.ENOUGH)
            if len(data) > request.limit:
                return Heard(data, End.LIMIT)
        return Heard(data, End.SILENT)


_Talk = Generator[Request, Reply, tuple[Observation, bytes]]


def _hold(talk: _Talk, hears: _Overhearing) -> tuple[Observation, bytes]:
    try:
        request = next(talk)
        while True:
            request = talk.send(hears.answer(request))
    except StopIteration as end:
        observation: tuple[Observation, bytes] = end.value
        return observation

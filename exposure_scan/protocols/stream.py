"""What a TCP port is, whatever its number says: the likely way of talking first, then the others.

A port's number is a hint about who should speak first and in which words. The answer decides: a mail
server that answers a web request with ``220`` is talked to as a mail server, on a new connection.
At most four connections, and no way of talking twice.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from exposure_scan.conversation import (
    Caller,
    Connect,
    Connected,
    Conversation,
    Heard,
    Observation,
    Receive,
    Reply,
    Request,
)

from . import http as web
from . import sip as phone
from .greeting import greeting, is_greeting
from .line import STEP, Line, unknown

MOST_CONNECTIONS = 4
_LISTEN = 0.5  # seconds, for a port that is only knocked at


@dataclass(frozen=True, slots=True)
class _Way:
    """One way of talking: whose words, in plain text or inside TLS, and the seconds until the first answer.

    `handshake` are the seconds for TLS on a port that may not speak it.
    """

    words: str
    seconds: float
    secure: bool = False
    handshake: float = 1.25


# Some mail servers greet late on purpose and punish whoever speaks before: Postfix's postscreen after 6 s
# (postscreen_greet_wait), Sendmail after 5 s where its greet_pause is set as its documentation shows.
_GREET_DELAY = 7.0
_GREET_DELAY_INSIDE = 5.5  # inside TLS: postscreen does not stand there, greet_pause may

# The seconds bound a port that takes connections and says nothing: about 10 s where a greeting is
# awaited, and about 5 s elsewhere.
_WAYS: dict[str, tuple[_Way, ...]] = {
    "greeting": (
        _Way("greeting", _GREET_DELAY),
        _Way("http", 2.5, secure=True, handshake=1.0),
        _Way("sip", 1.25, secure=True, handshake=1.0),
        _Way("http", 1.0),
        _Way("sip", 1.0),
    ),
    "http": (
        _Way("http", 2.5),
        _Way("http", 2.5, secure=True),
        _Way("sip", 1.25, secure=True),
        _Way("sip", 1.25),
    ),
    "sip": (
        _Way("sip", 2.5),
        _Way("sip", 2.5, secure=True),
        _Way("http", 2.5, secure=True),
        _Way("http", 1.25),
    ),
    "tls-http": (
        _Way("http", 3.0, secure=True, handshake=2.0),
        _Way("sip", 1.5, secure=True),
        _Way("greeting", 1.0),
        _Way("http", 1.0),
        _Way("sip", 1.0),
    ),
    "tls-sip": (
        _Way("sip", 3.0, secure=True, handshake=2.0),
        _Way("http", 1.5, secure=True),
        _Way("greeting", 1.0),
        _Way("http", 1.0),
        _Way("sip", 1.0),
    ),
    "tls-greeting": (
        _Way("greeting", _GREET_DELAY_INSIDE, secure=True, handshake=2.0),
        _Way("http", 1.5, secure=True),
        _Way("sip", 1.5, secure=True),
        _Way("greeting", 1.0),
        _Way("http", 1.0),
        _Way("sip", 1.0),
    ),
    "any": (
        _Way("greeting", 1.5),
        _Way("http", 2.5, secure=True),
        _Way("sip", 1.25, secure=True),
        _Way("http", 1.25),
        _Way("sip", 1.0),
    ),
    "moved": (  # found open by a sweep: it may be a mail server, so nothing is said before it had its time
        _Way("greeting", _GREET_DELAY),
        _Way("greeting", _GREET_DELAY_INSIDE, secure=True, handshake=1.0),
        _Way("http", 2.5, secure=True),
        _Way("sip", 1.25, secure=True),
        _Way("http", 1.25),
        _Way("sip", 1.0),
    ),
}  # fmt: skip
PROBES = frozenset(_WAYS)


def port(probe: str, token: str, caller: Caller) -> Conversation:
    """Find out what a TCP port speaks, beginning as `probe` says.

    Raises:
        KeyError: there is no such probe.
    """
    return _port(list(_WAYS[probe]), token, caller)


def _port(ways: list[_Way], token: str, caller: Caller) -> Conversation:
    best = Observation()
    tried: set[tuple[str, bool]] = set()
    connections = 0
    while ways and connections < MOST_CONNECTIONS:
        way = ways.pop(0)
        if (way.words, way.secure) in tried:
            continue
        tried.add((way.words, way.secure))
        connected = yield Connect()
        if not isinstance(connected, Connected):
            if connections:
                best = replace(best, notes=(*best.notes, "The port took no further connection."))
            break
        connections += 1
        line = Line(connected, connections)
        if way.secure:
            if (yield from line.secure(way.handshake)) is not None:
                ways = [other for other in ways if not other.secure]
                continue
            ways = [other for other in ways if other.secure]
        seen, first = yield from _talk(line, way, token, caller)
        best = max(best, line.observation(seen), key=_worth)
        if _settled(way, seen, first):
            break
        if seen.service is not None:  # a TLS port may refuse plain HTTP in plain HTTP: look inside, no more
            ways = [other for other in ways if other.secure]
        elif (words := _words_of(first)) is not None:
            ways.insert(0, _Way(words, STEP, way.secure, STEP))
    return best


def _talk(line: Line, way: _Way, token: str, caller: Caller) -> Generator[Request, Reply, tuple[Observation, bytes]]:
    if way.words == "greeting":
        return (yield from greeting(line, way.seconds))
    if way.words == "http":
        return (yield from web.http(line, way.seconds, caller))
    return (yield from phone.sip(line, way.seconds, token, caller))


def _worth(seen: Observation) -> tuple[bool, bool, bool]:
    """How much an observation tells: a service, then TLS, then any word. The first of equals is kept."""
    return seen.service is not None, seen.tls is not None, seen.answered


def _settled(way: _Way, seen: Observation, first: bytes) -> bool:
    """Nothing more is to be learnt: a service is known, or the port spoke first in words of its own."""
    if seen.service is not None:
        return way.secure or seen.said.get("http.status") != "400"
    return way.words == "greeting" and bool(first) and _words_of(first) in (None, "greeting")


def _words_of(first: bytes) -> str | None:
    """Whose words these are, by how they begin."""
    if first.startswith(web.MARK):
        return "http"
    if first.startswith(phone.MARK):
        return "sip"
    return "greeting" if is_greeting(first) else None


def silent() -> Conversation:
    """Knock, say nothing, and listen for half a second."""
    if not isinstance((yield Connect()), Connected):
        return Observation()
    heard = yield Receive(bool, _LISTEN, 4096)
    data = heard.data if isinstance(heard, Heard) else b""
    return unknown(data)

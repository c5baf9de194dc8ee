"""The vantage check's words: a hello that proves a shared key, and the answer that proves it in return.

``vantage serve`` answers on every port of the plan. What comes back shows that our packet reached that
very port of that very machine: a firewall, a transparent proxy or an antivirus that answers in its
place does not hold the key. The answer also says from which address and port the hello came, so that
address translation, and a proxy that passes everything on, can be told.

One line of ASCII each, so that a person who finds it in a log can read what it is::

    exposure-scan-vantage/1 hello tcp/25 NONCE MAC      (blanks up to 160 bytes)
    exposure-scan-vantage/1 seen 198.51.100.250|40000 MAC

A MAC is HMAC-SHA256 (RFC 2104) over the line's second word and all that the two must agree on. An
answer is never longer than the hello, so that the server amplifies nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Generator
from typing import Literal

from exposure_scan.conversation import (
    Caller,
    Connect,
    Connected,
    Heard,
    Observation,
    Receive,
    Reply,
    Request,
    Send,
    endpoint_text,
)

from .datagram import ask
from .line import line_ended
from .words import first_line, unique

HELLO = 160  # bytes of every hello
SERVICE = "vantage"

_MARK = "exposure-scan-vantage/1"
_SECONDS = 5.0  # for the answer on a stream
_WAITS = (0.3, 0.7, 1.2, 1.8)  # seconds after each datagram; a port that is wrongly called blind stays so for weeks
_LIMIT = 4096  # bytes of what anybody else may say
_HELLO = re.compile(rf"{_MARK} hello (?:tcp|udp)/[0-9]{{1,5}} ([0-9a-f]{{32}}) ([0-9a-f]{{64}}) *\n", re.ASCII)
_SEEN = re.compile(rf"{_MARK} seen ([0-9a-f.:]{{2,39}}\|[0-9]{{1,5}}) ([0-9a-f]{{64}})\n", re.ASCII)
_BANNER = "seen as "


def vantage(transport: Literal["tcp", "udp"], token: str, caller: Caller) -> Generator[Request, Reply, Observation]:
    """Say hello to one port. Valid: who answered holds `caller.secret`, and got the hello on this port."""
    nonce = unique(token, SERVICE, size=16).hex()
    seen: str | None = None
    port = ""

    def hello(connected: Connected) -> bytes:
        nonlocal port
        port = f"{transport}/{connected.peer[1]}"
        return _line(f"hello {port} {nonce} {_mac(caller.secret, 'hello', port, nonce)}").ljust(HELLO - 1) + b"\n"

    def proves(data: bytes) -> bool:
        nonlocal seen
        match = _SEEN.fullmatch(data.decode("latin-1"))
        if match is None or not _same(match[2], _mac(caller.secret, "seen", port, nonce, match[1])):
            return False
        seen = match[1]
        return True

    if transport == "udp":
        asked = yield from ask(hello, proves, waits=_WAITS)
        said = asked.answer if asked.answer is not None else asked.strange
    else:
        connected = yield Connect()
        if not isinstance(connected, Connected):
            return Observation()
        yield Send(hello(connected))
        heard = yield Receive(line_ended, _SECONDS, _LIMIT)
        said = heard.data if isinstance(heard, Heard) and heard.data else None
        if said is not None:
            proves(said)
    if said is None:
        return Observation()
    if seen is None:
        return Observation(banner=first_line(said), answered=True)
    return Observation(SERVICE, _BANNER + seen, answered=True, valid=True)


def seen_as(observation: Observation) -> str | None:
    """From where the server saw a hello come, as `endpoint_text` writes it; None if nothing proved the key."""
    return (observation.banner or "").removeprefix(_BANNER) if observation.valid else None


def answer(key: bytes, hello: bytes, port: str, source: tuple[str, int]) -> bytes | None:
    """The server's answer to a hello that came to `port` (``tcp/25``) from `source`; None: say nothing."""
    if len(hello) != HELLO:
        return None
    match = _HELLO.fullmatch(hello.decode("latin-1"))
    if match is None or not _same(match[2], _mac(key, "hello", port, match[1])):
        return None
    seen = endpoint_text(source)
    return _line(f"seen {seen} {_mac(key, 'seen', port, match[1], seen)}") + b"\n"


def _line(words: str) -> bytes:
    return f"{_MARK} {words}".encode("ascii")


def _mac(key: bytes, *words: str) -> str:
    return hmac.new(key, " ".join(words).encode("ascii"), hashlib.sha256).hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one, other)

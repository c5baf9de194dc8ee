"""One connection as a way of talking sees it: words out, whole answers in."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

from exposure_scan.conversation import (
    Connected,
    End,
    Heard,
    NotSecured,
    Observation,
    Receive,
    Reply,
    Request,
    Secured,
    Send,
    StartTls,
)
from exposure_scan.model import Tls

from . import tls as certificates
from .words import first_line

STEP = 5.0  # seconds for an answer that is due; patience has a place once the peer has begun to speak
GOODBYE = 1.0  # seconds for the answer to a goodbye
HANDSHAKE = 5.0  # seconds for TLS that the peer has agreed to

Whole = Callable[[bytes], bool]


@dataclass(slots=True)
class Line:
    """A connection that stands. `tls` is set once it is secured."""

    connected: Connected
    number: int  # the how-manieth connection of this conversation
    tls: Tls | None = None
    ended: End | None = None  # why the last answer was not whole

    def say(self, words: str) -> Generator[Request, Reply, None]:
        """Send a line of ASCII."""
        yield Send(words.encode("ascii") + b"\r\n")

    def hear(self, whole: Whole, seconds: float, limit: int = 16384) -> Generator[Request, Reply, bytes]:
        """Wait `seconds` for the first byte and then up to `STEP` seconds for the rest of an answer."""
        heard = yield Receive(bool, seconds, limit)
        data, self.ended = _heard(heard)
        if self.ended is End.ENOUGH and not whole(data):
            begun = data
            rest = yield Receive(lambda more: whole(begun + more), STEP, max(1, limit - len(begun)))
            more, self.ended = _heard(rest)
            data += more
        return data

    def ask(self, words: str, whole: Whole) -> Generator[Request, Reply, bytes]:
        """Send a line and wait for its whole answer."""
        yield from self.say(words)
        return (yield from self.hear(whole, STEP))

    def leave(self, words: str) -> Generator[Request, Reply, None]:
        """Say goodbye and give the peer a moment to answer it."""
        yield from self.say(words)
        yield Receive(lambda data: b"\n" in data, GOODBYE, 4096)

    def secure(self, seconds: float = HANDSHAKE) -> Generator[Request, Reply, str | None]:
        """Begin TLS and read the certificate. Returns why it failed, or None."""
        reply = yield StartTls(seconds)
        if isinstance(reply, Secured):
            self.tls = certificates.certificate_facts(reply)
            return None
        return reply.reason if isinstance(reply, NotSecured) else "no answer"

    def observation(self, seen: Observation) -> Observation:
        """What was seen, with what is known of TLS on this connection."""
        if self.tls is None:
            return seen
        return replace(seen, tls=self.tls, answered=True, said={**seen.said, **certificates.said(self.tls)})


def _heard(reply: Reply) -> tuple[bytes, End]:
    return (reply.data, reply.end) if isinstance(reply, Heard) else (b"", End.SILENT)


def unknown(data: bytes, *notes: str) -> Observation:
    """Words of no known protocol, or none at all."""
    return Observation(answered=bool(data), banner=first_line(data), notes=notes)


def line_ended(data: bytes) -> bool:
    """A line is there."""
    return b"\n" in data


_LAST_REPLY_LINE = re.compile(rb"^[0-9]{3}(?: [^\n]*|\r)?\n", re.MULTILINE)


def reply_ended(data: bytes) -> bool:
    """A reply of SMTP or FTP is whole: a line with a code and no hyphen (RFC 5321, 4.2.1; RFC 959, 4.2)."""
    return _LAST_REPLY_LINE.search(data) is not None

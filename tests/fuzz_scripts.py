r"""What a peer says, and what passed between two, as bytes that can be damaged and kept in a file.

A first byte, then pieces, each behind a mark such as ``\xfe<piece>\n`` that says what it is. Whatever bytes
come, they can be read: what has no mark before it is a piece.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import cast, get_args

from conversations import Moment, Said

from exposure_scan.conversation import End, Event, NotSecured, Secured, What

_MARK = re.compile(rb"\xfe<([a-z-]{1,20})>\n")
_ENDS = {"closed": End.CLOSED, "reset": End.RESET}
_MOST_TURNS, _MOST_PIECES = 40, 400  # more than any conversation hears
WHATS: frozenset[str] = frozenset(get_args(What))


def mark(what: str, data: bytes = b"") -> bytes:
    """One piece."""
    return b"\xfe<" + what.encode() + b">\n" + data


def _pieces(data: bytes, first: str) -> list[tuple[str, bytes]]:
    parts = _MARK.split(data)
    found = [(first, parts[0])] if parts[0] else []
    return found + [(what.decode(), said) for what, said in zip(parts[1::2], parts[2::2], strict=True)]


# --- a peer of ours --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Script:
    """A peer: what it says each time that it may speak, what comes of TLS, and how it goes on when it is through.

    The first byte: in its lowest two bits TLS (silence, refusal, a session with the certificate or without one), in
    the next two how many connections are taken (0: all), then whether the last turn is said again for ever.
    """

    turns: Sequence[Sequence[Said]]
    tls: int = 0
    connects: int = 0
    endless: bool = False

    @classmethod
    def read(cls, data: bytes) -> Script:
        head, turns = data[0] if data else 0, list[list[Said]]()
        for what, said in _pieces(data[1:], "turn")[:_MOST_PIECES]:
            if what == "turn" or not turns:
                turns.append([])
            if what in _ENDS:
                turns[-1].append(_ENDS[what])
            if said or what == "piece":
                turns[-1].append(said)
        return cls(turns[:_MOST_TURNS], head & 3, head >> 2 & 3, bool(head & 16))

    def written(self) -> bytes:
        head = bytes([self.tls | self.connects << 2 | self.endless << 4])
        words = {end: mark(name) for name, end in _ENDS.items()}
        turns = (
            mark("turn") + b"".join(words[said] if isinstance(said, End) else mark("piece", said) for said in turn)
            for turn in self.turns
        )
        return head + b"".join(turns)

    def peer(self) -> Callable[[Moment], Sequence[Said]]:
        more = repeat(self.turns[-1]) if self.turns and self.endless else repeat(())
        said = chain(self.turns, more)
        return lambda _: next(said)

    def handshake(self, certificate: bytes) -> Secured | NotSecured | None:
        kinds = (None, NotSecured("wrong version number"), Secured("TLSv1.2", "X", certificate))
        return (*kinds, Secured("TLSv1.3", "", b""))[self.tls]


def script_of(events: Iterable[Event]) -> Script:
    """The peer of a recorded conversation."""
    turns: list[list[Said]] = []
    tls = 0
    for event in events:
        if event.what in ("connected", "sent", "secured"):
            turns.append([])
            tls = 2 if event.what == "secured" else tls
        elif event.what == "not-secured":
            tls = 1
        elif event.what == "received" and turns:
            turns[-1].append(event.data)
        elif event.what in _ENDS and turns:
            turns[-1].append(_ENDS[event.what])
    return Script(turns, tls)


# --- what passed between two others ------------------------------------------------------------------


def events_written(events: Iterable[Event]) -> bytes:
    """Events as pieces; the detail of one that has no bytes stands in their place."""
    return b"".join(mark(event.what, event.data or event.detail.encode()) for event in events)


def events_read(data: bytes) -> list[Event]:
    """The events again, a thousandth of a second apart."""
    found = []
    for number, (what, said) in enumerate(_pieces(data, "received")[:_MOST_PIECES]):
        if what in WHATS:
            told = what in ("sent", "received")
            detail = "" if told else said.decode("utf-8", "replace")
            found.append(Event(float(number), cast("What", what), said if told else b"", detail))
    return found

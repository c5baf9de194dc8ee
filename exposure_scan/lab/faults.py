"""What goes wrong on the way to a site, each kind a small transform: a packet in, packets out.

A fault is a box on the line. It sees each packet that passes, in either direction, and says what
goes on from there: the packet itself, nothing, an answer of its own that turns back, all of it after
a delay. Boxes stand in a row, the first nearest to the scanner (`through`). No sockets and no clock:
the line (see `line`) and the tests hand both in.

    [read(text, seed=1) for text in ("router", "loss=0.2", "only=udp/5060")]
"""

# ruff: noqa: D102 - each box is called as `Fault` says

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from . import packets
from .packets import ACK, FIN, RST, SYN, Packet, Segment

ROUTER = "198.18.255.254"  # the router on the way, where one speaks
ELSEWHERE = "198.18.255.200"  # where answers come from that are not the host's
_OTHER_PORT = 55060  # likewise
_ODD_PACKETS_LATE = 0.03  # seconds, so that the next one overtakes
_PROXY_TTL, _PROXY_WINDOW = 255, 8192  # no host of the lab answers with these


class Way(StrEnum):
    """Which way a packet goes."""

    OUT = "out"  # from the scanner to the host
    BACK = "back"


class Passing(NamedTuple):
    """A packet that leaves a box: after how many seconds, which way, and its bytes."""

    seconds: float
    way: Way
    packet: bytes


class Fault(Protocol):
    """One box. `now` is a time in seconds of any one clock."""

    def __call__(self, way: Way, raw: bytes, now: float, /) -> Iterable[Passing]: ...


def through(faults: Sequence[Fault], way: Way, raw: bytes, now: float) -> list[Passing]:
    """What comes of a packet on its way through a row of boxes, at either end of the row."""
    left: list[Passing] = []
    under_way = [(0 if way is Way.OUT else len(faults) - 1, Passing(0.0, way, raw))]
    while under_way:
        at, (seconds, going, packet) = under_way.pop(0)
        if not 0 <= at < len(faults):
            left.append(Passing(seconds, going, packet))
            continue
        for more, turned, made in faults[at](going, packet, now + seconds):
            under_way.append((at + (1 if turned is Way.OUT else -1), Passing(seconds + more, turned, made)))
    return left


# --- the boxes ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Loss:
    """Each packet is lost by chance, each way for itself."""

    share: float
    chance: random.Random

    def __call__(self, way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
        return [Passing(0, way, raw)] if self.chance.random() >= self.share else []


@dataclass(slots=True)
class FirstOfFlow:
    """The first packet of every flow goes nowhere, as where a way is only built when it is asked for."""

    known: set[tuple[object, ...]] = field(default_factory=set)

    def __call__(self, way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
        packet = packets.read(raw)
        if way is Way.OUT and packet is not None:
            mark = packet.ports or packet.body[4:6]  # an echo's flow is its identifier
            flow = (packet.source, packet.destination, packet.protocol, mark)
            if flow not in self.known:
                self.known.add(flow)
                return []
        return [Passing(0, way, raw)]


@dataclass(slots=True)
class Dark:
    """After so many packets from the scanner, no further one gets through: somebody has blocked it.

    Answers to what got through before still come, as from behind a firewall that has begun to refuse
    a source.
    """

    after: int
    seen: int = 0

    def __call__(self, way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
        self.seen += way is Way.OUT
        return [Passing(0, way, raw)] if way is Way.BACK or self.seen <= self.after else []


@dataclass(slots=True)
class FewErrors:
    """ICMP errors pass at so many a second and no more; one may pass at once."""

    per_second: float
    next_at: float = float("-inf")

    def __call__(self, way: Way, raw: bytes, now: float) -> Iterable[Passing]:
        packet = packets.read(raw)
        if way is Way.BACK and packet is not None and packet.is_error:
            if now < self.next_at:
                return []
            self.next_at = now + 1 / self.per_second
        return [Passing(0, way, raw)]


@dataclass(frozen=True, slots=True)
class Only:
    """A firewall: `allowed` (``udp/5060``, ``icmp``) passes, the rest is dropped or answered with an ICMP error.

    `says` is type, code and sender of that error; a sender of None is the host itself.
    """

    allowed: frozenset[str]
    says: tuple[int, int, str | None] | None = None

    def __call__(self, way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
        packet = packets.read(raw)
        if packet is None or way is Way.BACK or packet.key in self.allowed:
            return [Passing(0, way, raw)]
        if self.says is None or not _may_be_answered(packet):
            return []
        kind, code, sender = self.says
        return [Passing(0, Way.BACK, packets.icmp_error(raw, kind, code, sender or packet.destination))]


@dataclass(frozen=True, slots=True)
class Accepts:
    """Completes the TCP handshake on `ports` (None is all of them) for whatever address, and then says nothing.

    What comes after the handshake is acknowledged, or torn down if `resets`. The host behind it
    never sees those ports: the SIP helper of a firewall, or a proxy against floods of SYNs.
    """

    ports: frozenset[int] | None
    resets: bool = False

    def __call__(self, way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
        packet = packets.read(raw)
        segment = packet.segment if packet is not None else None
        if packet is None or segment is None or way is Way.BACK or not self._answers_for(segment.destination):
            return [Passing(0, way, raw)]
        answer = self._answer(packet, segment)
        if answer is None:
            return []
        made = packets.tcp(answer, packet.destination, packet.source, _PROXY_TTL)
        return [Passing(0, Way.BACK, made)]

    def _answers_for(self, port: int) -> bool:
        return self.ports is None or port in self.ports

    def _answer(self, packet: Packet, segment: Segment) -> Segment | None:
        back = Segment(segment.destination, segment.source, segment.ack, 0, ACK, _PROXY_WINDOW)
        if segment.flags & RST:
            return None
        if segment.flags & SYN:
            first = zlib.crc32(f"{packet.source} {segment.source} {segment.destination}".encode())
            return replace(back, seq=first, ack=segment.seq + 1, flags=SYN | ACK)
        if self.resets:
            return replace(back, flags=RST, window=0)
        heard = segment.seq + len(segment.data) + bool(segment.flags & FIN)
        if segment.flags & FIN:
            return replace(back, ack=heard, flags=FIN | ACK)
        return replace(back, ack=heard) if segment.data else None


@dataclass(frozen=True, slots=True)
class Late:
    """Answers come so many seconds late; if `words`, only what carries some, while handshakes are prompt."""

    seconds: float
    words: bool

    def __call__(self, way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
        packet = packets.read(raw)
        late = way is Way.BACK and (not self.words or (packet is not None and bool(packet.payload)))
        return [Passing(self.seconds if late else 0, way, raw)]


def duplicated(way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
    """Every answer comes twice."""
    return [Passing(0, way, raw)] * (2 if way is Way.BACK else 1)


@dataclass(slots=True)
class Reordered:
    """Every other answer is overtaken by the next."""

    count: int = 0

    def __call__(self, way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
        self.count += way is Way.BACK
        late = way is Way.BACK and self.count % 2
        return [Passing(_ODD_PACKETS_LATE if late else 0, way, raw)]


@dataclass(frozen=True, slots=True)
class From:
    """Answers come from another address, or from another port of the host."""

    address: str | None = None
    port: int | None = None

    def __call__(self, way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
        packet = packets.read(raw)
        if way is Way.OUT or packet is None:
            return [Passing(0, way, raw)]
        if self.port is not None and packet.ports is not None:
            packet = replace(packet, body=self.port.to_bytes(2, "big") + packet.body[2:])
        return [Passing(0, way, packets.write(replace(packet, source=self.address or packet.source)))]


def router(way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
    """One hop: the time to live goes down by one, and where it ends, the router says so (RFC 792)."""
    packet = packets.read(raw)
    if packet is None:
        return [Passing(0, way, raw)]
    if packet.ttl > 1:
        return [Passing(0, way, packets.with_ttl(raw, packet.ttl - 1))]
    if way is Way.BACK or not _may_be_answered(packet):
        return []
    return [Passing(0, Way.BACK, packets.icmp_error(raw, packets.TIME_EXCEEDED, 0, ROUTER))]


def _may_be_answered(packet: Packet) -> bool:
    """By an ICMP error: not where it is one itself, nor a reset, which nobody waits behind."""
    return not packet.is_error and not (packet.segment is not None and packet.segment.flags & RST)


# --- their names ----------------------------------------------------------------------------------

_PROHIBITED = (packets.UNREACHABLE, packets.ADMIN_PROHIBITED)
_HELPED = frozenset({5060, 2000})  # SIP and Skinny, which a firewall's voice helper looks after


def _keys(text: str) -> frozenset[str]:
    return frozenset(key for key in text.split("+") if key)


# `loss=0.2`: the name, and how its text and a seed make the box.
FAULTS: Mapping[str, Callable[[str, str], Fault]] = MappingProxyType(
    {
        "loss": lambda text, seed: Loss(float(text), random.Random(seed)),  # noqa: S311 - repeatable, not secret
        "first-of-flow": lambda _text, _seed: FirstOfFlow(),
        "dark": lambda text, _seed: Dark(int(text)),
        "few-errors": lambda text, _seed: FewErrors(float(text)),
        "only": lambda text, _seed: Only(_keys(text)),
        "prohibited-by-router": lambda text, _seed: Only(_keys(text), (*_PROHIBITED, ROUTER)),
        "prohibited-by-host": lambda text, _seed: Only(_keys(text), (*_PROHIBITED, None)),
        "dead": lambda _text, _seed: Only(frozenset()),
        "unreachable": lambda _text, _seed: Only(frozenset(), (packets.UNREACHABLE, packets.HOST_UNREACHABLE, ROUTER)),
        "sip-helper": lambda _text, _seed: Accepts(_HELPED),
        "sip-helper-resets": lambda _text, _seed: Accepts(_HELPED, resets=True),
        "syn-proxy": lambda _text, _seed: Accepts(None),
        "slow": lambda text, _seed: Late(float(text), words=True),
        "late": lambda text, _seed: Late(float(text), words=False),
        "duplicated": lambda _text, _seed: duplicated,
        "reordered": lambda _text, _seed: Reordered(),
        "from-elsewhere": lambda _text, _seed: From(address=ELSEWHERE),
        "from-another-port": lambda _text, _seed: From(port=_OTHER_PORT),
        "router": lambda _text, _seed: router,
    }
)


def read(text: str, seed: object) -> Fault:
    """The fault of a text such as ``loss=0.2`` or ``only=udp/5060+icmp``.

    Two faults of the same text and seed draw the same lots.

    Raises:
        ValueError: there is no such fault, or its text does not fit.
    """
    name, _, more = text.partition("=")
    if name not in FAULTS:
        raise ValueError(f"there is no fault {name!r}; there are: {', '.join(FAULTS)}")
    return FAULTS[name](more, f"{seed} {text}")

"""A capture out of what the sockets said and saw, for machines where packets may not be recorded.

What was not seen is not there: a SYN that the kernel repeated by itself, the end of a connection that we
closed, a wide sweep's knocks. What no socket shows of a packet is made up in the plainest way, and is the same
for all: sequence numbers from 0, a time to live of 64, a window of 65,535, segments as large as Ethernet carries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address

from exposure_scan.conversation import Event, Exchange
from exposure_scan.model import Address

from .headers import checksum, summed
from .icmp import read_icmp
from .packets import TCP, UDP
from .pcap import entry

_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_TTL, _WINDOW = 64, 65535
_SEGMENT = {4: 1460, 6: 1440}  # bytes of payload that one frame of Ethernet carries behind its headers
_ICMP_FOR = {4: 1, 6: 58}
_QUOTED = 8  # bytes behind the IP header that an ICMP error quotes at least (RFC 792)
_CHECKSUM6 = 128  # the echo request whose checksum our socket leaves to the kernel

_Ends = tuple[str, int]


def rebuild(exchanges: Iterable[Exchange]) -> list[bytes]:
    """The entries of the pcap, in the order of time. The same exchanges give the same bytes.

    Raises:
        ValueError: an event tells of no addresses and ports, or of a time that a pcap has no room for.
    """
    try:
        timed = [row for exchange in exchanges for row in _packets(exchange)]
        timed.sort(key=lambda row: row[0])
        return [entry(raw, stamp) for stamp, raw in timed]
    except (struct.error, OverflowError) as error:
        raise ValueError(f"no packet can have such numbers ({error})") from None


def _packets(exchange: Exchange) -> Iterator[tuple[int, bytes]]:
    """Each packet with its time in microseconds since 1970."""
    zero = round(exchange.at.timestamp() * 1_000_000)
    line: _Stream | _Datagrams = _Stream() if exchange.question.transport == "tcp" else _Datagrams()
    secured = False
    events = sorted((*exchange.events, *exchange.enciphered), key=lambda event: event.ms)
    inside = {id(event) for event in exchange.enciphered}
    for event in _resets_last(events):
        if event.what in ("connected", "asking"):
            secured = False
        elif event.what == "secured":
            secured = True
        if secured and event.what in ("sent", "received") and id(event) not in inside:
            continue  # it went enciphered
        for raw in line.packets(event):
            yield zero + round(event.ms * 1000), raw


def _resets_last(events: Iterable[Event]) -> Iterator[Event]:
    """The events with each connection's reset behind all that was read of it.

    A word of ours that could not be sent shows the reset first, and what lay there before it is read afterwards.
    """
    held: Event | None = None
    for event in events:
        if event.what in ("connected", "asking") and held is not None:
            yield held
            held = None
        if event.what == "reset":
            held = event
            continue
        if held is not None and event.what == "received":
            held = held._replace(ms=event.ms)
        yield event
    if held is not None:
        yield held


class _Datagrams:
    """UDP, and ICMP echo, whose messages are whole already."""

    def __init__(self) -> None:
        self._ends: tuple[_Ends, _Ends] | None = None
        self._last: bytes | None = None  # what an ICMP error quotes

    def packets(self, event: Event) -> Iterator[bytes]:
        if event.what == "connected":
            self._ends = _ends(event.detail)
        elif self._ends is None:
            return
        elif event.what in ("sent", "received"):
            outward = event.what == "sent"
            source, destination = self._ends if outward else self._ends[::-1]
            make = _udp if self._ends[1][1] else _echo  # a ping has no port
            raw = make(source, destination, event.data)
            if outward:
                self._last = raw
            yield raw
        elif event.what == "icmp" and self._last is not None:
            yield _error(event, self._ends[0], self._last)


@dataclass(slots=True)
class _Connection:
    """A connection, and the number of each side's next byte: ours first."""

    near: _Ends
    far: _Ends
    next: list[int] = field(default_factory=lambda: [0, 0])
    syn: bytes = b""

    def segment(self, *, outward: bool, flags: int, data: bytes = b"") -> bytes:
        """The next segment of one side; SYN and FIN count as a byte (RFC 9293, section 3.4)."""
        mine, other = (0, 1) if outward else (1, 0)
        ends = (self.near, self.far) if outward else (self.far, self.near)
        raw = _tcp(*ends, self.next[mine], self.next[other] if flags & _ACK else 0, flags, data)
        self.next[mine] += len(data) + bool(flags & (_SYN | _FIN))
        return raw


class _Stream:
    """TCP. Two attempts may be under way; the connection that stands is one of them."""

    def __init__(self) -> None:
        self._asking: dict[tuple[_Ends, _Ends], _Connection] = {}
        self._now: _Connection | None = None

    def packets(self, event: Event) -> Iterator[bytes]:
        if event.what == "asking":
            yield self._ask(_ends(event.detail)).syn
        elif event.what == "connected":
            yield from self._stand(_ends(event.detail))
        elif event.what == "icmp" and self._asking:
            latest = self._now or list(self._asking.values())[-1]
            yield _error(event, latest.near, latest.syn)
        elif event.what == "not-connected" and event.detail == "rst" and self._asking:
            yield next(iter(self._asking.values())).segment(outward=False, flags=_RST | _ACK)
        elif self._now is None:
            return
        elif event.what in ("sent", "received"):
            most = _SEGMENT[_address(self._now.near).version]
            for at in range(0, len(event.data), most):
                piece = event.data[at : at + most]
                yield self._now.segment(outward=event.what == "sent", flags=_PSH | _ACK, data=piece)
        elif event.what == "closed":
            yield self._now.segment(outward=False, flags=_FIN | _ACK)
        elif event.what == "reset":
            yield self._now.segment(outward=False, flags=_RST | _ACK)

    def _ask(self, ends: tuple[_Ends, _Ends]) -> _Connection:
        connection = self._asking[ends] = _Connection(*ends)
        connection.syn = connection.segment(outward=True, flags=_SYN)
        return connection

    def _stand(self, ends: tuple[_Ends, _Ends]) -> Iterator[bytes]:
        known = self._asking.get(ends)
        if known is None:  # records from before attempts were written down
            known = self._ask(ends)
            yield known.syn
        self._now = known
        yield known.segment(outward=False, flags=_SYN | _ACK)
        yield known.segment(outward=True, flags=_ACK)


# --- headers --------------------------------------------------------------------------------------


def _ends(detail: str) -> tuple[_Ends, _Ends]:
    near, far = ((host, int(port)) for host, _, port in (end.rpartition("|") for end in detail.split(" ")))
    return near, far


@lru_cache(maxsize=4096)
def _address(end: _Ends) -> Address:
    return ip_address(end[0])


def _ip(source: Address, destination: Address, protocol: int, body: bytes) -> bytes:
    if source.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, _TTL, protocol, 0)
        head += source.packed + destination.packed
        return head[:10] + checksum(head) + head[12:] + body
    return struct.pack("!IHBB", 0x60000000, len(body), protocol, _TTL) + source.packed + destination.packed + body


def _summed(source: Address, destination: Address, protocol: int, body: bytes) -> bytes:
    return summed(source.packed, destination.packed, protocol, body)


def _udp(source: _Ends, destination: _Ends, data: bytes) -> bytes:
    ends = _address(source), _address(destination)
    body = struct.pack("!HHHH", source[1], destination[1], 8 + len(data), 0) + data
    return _ip(*ends, UDP, body[:6] + (_summed(*ends, UDP, body).replace(b"\0\0", b"\xff\xff")) + body[8:])


def _tcp(source: _Ends, destination: _Ends, sequence: int, acknowledged: int, flags: int, data: bytes) -> bytes:
    ends = _address(source), _address(destination)
    body = struct.pack("!HHIIBBHHH", source[1], destination[1], sequence, acknowledged, 0x50, flags, _WINDOW, 0, 0)
    body += data
    return _ip(*ends, TCP, body[:16] + _summed(*ends, TCP, body) + body[18:])


def _echo(source: _Ends, destination: _Ends, message: bytes) -> bytes:
    ends = _address(source), _address(destination)
    protocol = _ICMP_FOR[ends[0].version]
    if message[:1] == bytes([_CHECKSUM6]):
        message = message[:2] + b"\0\0" + message[4:]
        message = message[:2] + _summed(*ends, protocol, message) + message[4:]
    return _ip(*ends, protocol, message)


def _error(event: Event, near: _Ends, about: bytes) -> bytes:
    error = read_icmp(event.detail)
    ends = error.offender, _address(near)
    protocol = _ICMP_FOR[ends[0].version]
    quoted = about[: (20 if ends[0].version == 4 else 40) + _QUOTED]
    body = struct.pack("!BBHI", error.type, error.code, 0, 0) + quoted
    total = checksum(body) if protocol == _ICMP_FOR[4] else _summed(*ends, protocol, body)
    return _ip(*ends, protocol, body[:2] + total + body[4:])

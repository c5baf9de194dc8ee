"""Hosts that are a function of packets: what no listening socket can be made to do, done on the wire.

The address belongs to nobody, so the kernel says nothing for it. What is sent there is read from the
loopback device, passes a row of boxes as on the lab's line (`exposure_scan.lab.faults`), and what turns
back is sent as if the host had said it. All of it in the event loop of the test.
"""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import peers

from exposure_scan.lab import packets
from exposure_scan.lab.faults import Accepts, Fault, Passing, Way, through
from exposure_scan.lab.packets import ACK, RST, SYN, Segment

Flow = tuple[int, int]  # the scanner's port, and the host's


def refuses(way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
    """A host that serves nothing: a RST for every SYN, an ICMP error for every datagram, nothing for ping."""
    packet = packets.read(raw)
    segment = packet.segment if packet is not None else None
    if packet is None or way is Way.BACK or packet.protocol == packets.ICMP:
        return []
    if segment is None:
        error = packets.icmp_error(raw, packets.UNREACHABLE, packets.PORT_UNREACHABLE, packet.destination)
        return [Passing(0, Way.BACK, error)]
    if segment.flags & RST:
        return []
    no = Segment(segment.destination, segment.source, segment.ack, segment.seq + 1, RST | ACK, 0)
    return [Passing(0, Way.BACK, packets.tcp(no, packet.destination, packet.source))]


@dataclass
class OnlyFirst:
    """Takes the first connection to each of `ports`; the host behind it sees those that come after."""

    ports: frozenset[int]
    first: dict[int, Flow] = field(default_factory=dict)

    def __call__(self, way: Way, raw: bytes, now: float) -> Iterable[Passing]:
        packet = packets.read(raw)
        segment = packet.segment if packet is not None else None
        if segment is None or way is Way.BACK or segment.destination not in self.ports:
            return [Passing(0, way, raw)]
        flow = (segment.source, segment.destination)
        if self.first.setdefault(segment.destination, flow) != flow:
            return [Passing(0, way, raw)]
        return Accepts(None)(way, raw, now)


@dataclass
class Blocks:
    """A firewall that lets everything pass until `when` says so of a SYN's port, and nothing from then on."""

    when: Callable[[int], bool]
    blocking: bool = False
    let_in: set[int] = field(default_factory=set)  # ports whose SYN passed

    def __call__(self, way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
        packet = packets.read(raw)
        segment = packet.segment if packet is not None else None
        if way is Way.OUT and segment is not None and segment.flags & SYN and not self.blocking:
            self.blocking = self.when(segment.destination)
            if not self.blocking:
                self.let_in.add(segment.destination)
        return [] if self.blocking and way is Way.OUT else [Passing(0, way, raw)]


@dataclass
class Drops:
    """A firewall that drops what goes to these TCP ports, and lets the rest pass."""

    ports: frozenset[int]

    def __call__(self, way: Way, raw: bytes, _now: float) -> Iterable[Passing]:
        packet = packets.read(raw)
        segment = packet.segment if packet is not None else None
        dropped = way is Way.OUT and segment is not None and segment.destination in self.ports
        return [] if dropped else [Passing(0, way, raw)]


class Seen:
    """What came to the host over TCP, by its port: flows that began, and words."""

    def __init__(self) -> None:
        self.words: dict[int, bytes] = {}
        self._flows: dict[int, set[int]] = {}

    def note(self, raw: bytes) -> None:
        """One more packet."""
        packet = packets.read(raw)
        segment = packet.segment if packet is not None else None
        if segment is None:
            return
        if segment.flags & SYN:
            self._flows.setdefault(segment.destination, set()).add(segment.source)
        if segment.data:
            self.words[segment.destination] = self.words.get(segment.destination, b"") + segment.data

    def connections(self, port: int) -> int:
        """How many flows began with a SYN to this port; a SYN that the kernel repeats is none more."""
        return len(self._flows.get(port, ()))


@asynccontextmanager
async def standing(*row: Fault, address: str = peers.SILENT) -> AsyncIterator[Seen]:
    """A host at an address of nobody's: the boxes before it, nearest to the scanner first, and itself as the last."""
    seen = Seen()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as out:

        def arrives(packet: bytes) -> None:
            if packet[0] >> 4 == 4 and peers.destination(packet) == address:
                seen.note(packet)
                for answer in _answers(row, packet):
                    out.sendto(answer, (peers.destination(answer), 0))

        async with peers.wire() as wire:
            wire.react = arrives
            yield seen


def _answers(row: Sequence[Fault], packet: bytes) -> list[bytes]:
    passed = through(row, Way.OUT, packet, time.monotonic())
    return [passing.packet for passing in passed if passing.way is Way.BACK]

"""What passed the wire while we asked, kept as a pcap.

The record of a conversation is what our own program saw. The capture is what the kernel saw, and
anybody's tool can open it. Packets start at their IP header (link type 101): that is all that
matters here, and lines without Ethernet (tunnels, PPP) need no invented header.
"""

from __future__ import annotations

import struct
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from exposure_scan.model import Address, Target

from .gate import Gate
from .packets import FRAGMENT, ICMP, TCP, UDP, Packet, parse
from .pcap import ENTRY_HEADER, HEADER, entry
from .wire import Wire, wired

LIMIT = 64 * 1024 * 1024  # bytes kept
_SYN_ACK = 0x12  # TCP flags
_PLAIN, _FLAGS = 0x45, ENTRY_HEADER + 33  # IPv4 without options, and where TCP's flags are then


class Capture:
    """The packets between this machine's gate and its targets, as long as it runs.

    Another program may talk to the same address: what the gate opened no socket for is not kept.
    """

    def __init__(self, gate: Gate, targets: Iterable[Target]) -> None:
        self.complete = True  # nothing was dropped by us or by the kernel
        self._gate = gate
        self._addresses = {target.address for target in targets}
        self._packed = {address.packed for address in self._addresses}
        self._records: list[bytes] = []
        self._size = len(HEADER)

    def listen(self, wire: Wire) -> None:
        """Begin to take packets."""
        for address in self._addresses:
            wire.listeners[address.packed] = self

    def stop(self, wire: Wire) -> None:
        """Take what still lies in the kernel and end."""
        wire.settle()
        for address in self._addresses:
            if wire.listeners.get(address.packed) is self:
                del wire.listeners[address.packed]

    def missed(self) -> None:
        """Packets are missing."""
        self.complete = False

    @property
    def entries(self) -> Sequence[bytes]:
        """The packets as `pcap.entry` writes them, in the order of capture."""
        return self._records

    def pcap(self) -> bytes:
        """The file's bytes."""
        return HEADER + b"".join(self._records)

    def syn_acks(self) -> dict[tuple[Address, int, int], tuple[int, int]]:
        """Time to live and window of each SYN-ACK, by the peer's address, its port and ours."""
        found = {}
        for record in self._records:
            if record[ENTRY_HEADER] == _PLAIN and (len(record) < _FLAGS + 1 or record[_FLAGS] & 0x3F != _SYN_ACK):
                continue  # nearly all of them
            raw = record[ENTRY_HEADER:]
            packet = parse(raw)
            if packet is None or packet.protocol != TCP or len(packet.body) < 20:
                continue
            theirs, ours = struct.unpack_from("!HH", packet.body)
            if packet.body[13] & 0x3F == _SYN_ACK and packet.source in self._addresses:
                ttl = raw[8] if raw[0] >> 4 == 4 else raw[7]
                found[packet.source, theirs, ours] = (ttl, struct.unpack_from("!H", packet.body, 14)[0])
        return found

    def take(self, raw: bytes, nanoseconds: int | None) -> None:
        """Keep the packet if it is one of ours."""
        if not self._wanted(raw):
            return
        if self._size + ENTRY_HEADER + len(raw) > LIMIT:
            self.complete = False
            return
        whole = entry(raw, (time.time_ns() if nanoseconds is None else nanoseconds) // 1000)
        self._records.append(whole)
        self._size += len(whole)

    def _wanted(self, raw: bytes) -> bool:
        """In a flow of ours, an error about one, or an echo or a fragment (which tell no flow) of a target."""
        if raw[0] >> 4 == 4 and raw[9] in (TCP, UDP) and not (raw[6] & 0x3F or raw[7]):  # nearly all of them
            start = (raw[0] & 0x0F) * 4
            return self._in_a_flow(raw[9:10], raw[12:16], raw[16:20], raw[start : start + 4])
        packet = parse(raw)
        if packet is None:
            return False
        if (quoted := packet.quoted) is not None:
            return quoted.destination in self._addresses and self._is_about(quoted)
        return self._is_about(packet)

    def _is_about(self, packet: Packet) -> bool:
        if packet.protocol in (*ICMP, FRAGMENT):
            return bool(self._addresses & {packet.source, packet.destination})
        ends = packet.source.packed, packet.destination.packed
        return self._in_a_flow(bytes([packet.protocol]), *ends, packet.body[:4])

    def _in_a_flow(self, protocol: bytes, source: bytes, destination: bytes, ports: bytes) -> bool:
        is_ours = self._gate.is_ours
        return (destination in self._packed and is_ours(protocol, ports, destination)) or (
            source in self._packed and is_ours(protocol, ports[2:] + ports[:2], source)
        )


@asynccontextmanager
async def record(gate: Gate, targets: Iterable[Target]) -> AsyncIterator[Capture | None]:
    """Capture while the block runs; None where this process may not."""
    async with wired(gate) as wire:
        if wire is None:
            yield None
            return
        capture = Capture(gate, targets)
        capture.listen(wire)
        try:
            yield capture
        finally:
            capture.stop(wire)

"""What passed the wire while we asked, kept as a pcap.

The record of a conversation is what our own program saw. The capture is what the kernel saw, and
anybody's tool can open it. Packets start at their IP header (link type 101): that is all that
matters here, and lines without Ethernet (tunnels, PPP) need no invented header.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from exposure_scan.model import Address, Target

from .gate import Gate
from .packets import FRAGMENT, ICMP, TCP, UDP, Packet, parse
from .pcap import ENTRY_HEADER, HEADER, entry

LIMIT = 64 * 1024 * 1024  # bytes kept
_BATCH = 256  # packets read at a time, so that the conversations get their turn
_LARGEST = 65575  # an IPv6 packet with its header
_KERNEL_BUFFER = 4 * 1024 * 1024
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
_TIMESPEC = struct.Struct("=qq")
_OUTGOING, _PACKET_STATISTICS = 4, 6  # linux/if_packet.h
_SOL_PACKET = 263  # linux/socket.h
_STATISTICS = struct.Struct("=II")  # struct tpacket_stats: packets, drops
_IPV4, _IPV6 = 0x0800, 0x86DD
_SYN_ACK = 0x12  # TCP flags


class Capture:
    """The packets between this machine's gate and its targets, as long as it runs.

    Another program may talk to the same address: what the gate opened no socket for is not kept.
    """

    def __init__(self, gate: Gate, sock: socket.socket, targets: Iterable[Target]) -> None:
        self.complete = True  # nothing was dropped by us or by the kernel
        self._gate = gate
        self._sock = sock
        self._addresses = {target.address for target in targets}
        self._records: list[bytes] = []
        self._size = len(HEADER)
        self._interfaces: dict[str, bool] = {}
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read)

    def stop(self) -> None:
        """Take what still lies in the kernel and end."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            for _ in range(64):
                if not self._read():
                    break
            _, dropped = _STATISTICS.unpack(self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
            self.complete = self.complete and not dropped
            self._sock.close()

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
            raw = record[ENTRY_HEADER:]
            packet = parse(raw)
            if packet is None or packet.protocol != TCP or len(packet.body) < 20:
                continue
            theirs, ours = struct.unpack_from("!HH", packet.body)
            if packet.body[13] & 0x3F == _SYN_ACK and packet.source in self._addresses:
                ttl = raw[8] if raw[0] >> 4 == 4 else raw[7]
                found[packet.source, theirs, ours] = (ttl, struct.unpack_from("!H", packet.body, 14)[0])
        return found

    def _read(self) -> bool:
        """Read a batch; whether more may lie there."""
        for _ in range(_BATCH):
            try:
                packet, ancillary, _, source = self._sock.recvmsg(_LARGEST, 64)
            except OSError:  # nothing more, or an interface went down
                return False
            name, protocol, direction = source[:3]
            # On the loopback device each packet is seen twice: going out, and coming in.
            if protocol in (_IPV4, _IPV6) and not (direction == _OUTGOING and name == "lo") and self._wanted(packet):
                self._keep(packet, ancillary)
        return True

    def _keep(self, packet: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        if self._size + ENTRY_HEADER + len(packet) > LIMIT:
            self.complete = False
            return
        stamp = time.time_ns()
        for level, _, data in ancillary:
            if level == socket.SOL_SOCKET and len(data) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                stamp = seconds * 1_000_000_000 + nanoseconds
        whole = entry(packet, stamp // 1000)
        self._records.append(whole)
        self._size += len(whole)

    def _wanted(self, raw: bytes) -> bool:
        """In a flow of ours, an error about one, or an echo or a fragment (which tell no flow) of a target."""
        packet = parse(raw)
        if packet is None:
            return False
        if (quoted := packet.quoted) is not None:
            return quoted.destination in self._addresses and self._in_a_flow(quoted)
        return self._in_a_flow(packet)

    def _in_a_flow(self, packet: Packet) -> bool:
        if packet.protocol in (*ICMP, FRAGMENT):
            return bool(self._addresses & {packet.source, packet.destination})
        if packet.protocol not in (TCP, UDP) or len(packet.body) < 4:
            return False
        near, far = struct.unpack_from("!HH", packet.body)
        return (
            packet.destination in self._addresses and self._gate.is_ours(packet.protocol, near, packet.destination, far)
        ) or (packet.source in self._addresses and self._gate.is_ours(packet.protocol, far, packet.source, near))


@asynccontextmanager
async def record(gate: Gate, targets: Iterable[Target]) -> AsyncIterator[Capture | None]:
    """Capture while the block runs; None where this process may not."""
    sock = gate.packet_capture()
    if sock is None:
        yield None
        return
    try:
        capture = Capture(gate, sock, targets)
        try:
            yield capture
        finally:
            capture.stop()
    finally:
        sock.close()

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
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from exposure_scan.model import Address, Target

from .gate import Gate
from .packets import FRAGMENT, ICMP, TCP, UDP, Packet, parse

LIMIT = 64 * 1024 * 1024  # bytes kept
_HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)  # LINKTYPE_RAW
_RECORD = struct.Struct("=IIII")
_BATCH = 256  # packets read at a time, so that the conversations get their turn
_LARGEST = 65575  # an IPv6 packet with its header
_KERNEL_BUFFER = 4 * 1024 * 1024
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
_TIMESPEC = struct.Struct("=qq")
_OUTGOING = 4  # linux/if_packet.h PACKET_OUTGOING
_IPV4, _IPV6 = 0x0800, 0x86DD
_SYN_ACK = 0x12  # TCP flags


class Capture:
    """The packets between this machine's gate and its targets, as long as it runs.

    Another program may talk to the same address: what the gate opened no socket for is not kept.
    """

    def __init__(self, gate: Gate, sock: socket.socket, targets: Iterable[Target]) -> None:
        self.truncated = False  # more came than is kept
        self._gate = gate
        self._sock = sock
        self._addresses = {target.address for target in targets}
        self._records: list[bytes] = []
        self._size = len(_HEADER)
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
            self._sock.close()

    def pcap(self) -> bytes:
        """The file's bytes."""
        return _HEADER + b"".join(self._records)

    def syn_acks(self) -> dict[tuple[Address, int, int], tuple[int, int]]:
        """Time to live and window of each SYN-ACK, by the peer's address, its port and ours."""
        found = {}
        for record in self._records:
            raw = record[_RECORD.size :]
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
        if self._size + _RECORD.size + len(packet) > LIMIT:
            self.truncated = True
            return
        stamp = time.time_ns()
        for level, _, data in ancillary:
            if level == socket.SOL_SOCKET and len(data) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                stamp = seconds * 1_000_000_000 + nanoseconds
        record = _RECORD.pack(stamp // 10**9, stamp % 10**9 // 1000, len(packet), len(packet)) + packet
        self._records.append(record)
        self._size += len(record)

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

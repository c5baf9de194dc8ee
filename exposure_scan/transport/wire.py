"""The one socket of a gate that sees packets, shared by all captures and by the raw engine.

A socket for each scan would see the packets of all of them: with a thousand sites at once that is a million
looks for a thousand packets.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol
from weakref import WeakKeyDictionary

from .gate import Gate
from .packets import TCP, Packet, parse

_BATCH = 256  # packets read at a time, so that the conversations get their turn
_DRAIN = 64  # batches at the end
_LARGEST = 65575  # an IPv6 packet with its header
_KERNEL_BUFFER = 16 * 1024 * 1024
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33  # asm-generic/socket.h; Python has no names for them
_TIMESPEC = struct.Struct("=qq")
_OUTGOING, _PACKET_STATISTICS = 4, 6  # linux/if_packet.h
_SO_MEMINFO = 55  # asm-generic/socket.h
_MEMINFO = struct.Struct("=9I")  # linux/sock_diag.h; the last is SK_MEMINFO_DROPS
_SOL_PACKET = 263  # linux/socket.h
_STATISTICS = struct.Struct("=II")  # struct tpacket_stats: packets, drops
_IPV4, _IPV6 = 0x0800, 0x86DD
_ICMP_PROTOCOLS = (1, 58)


class Listener(Protocol):
    """Who takes the packets of an address."""

    def take(self, raw: bytes, nanoseconds: int | None) -> None:
        """A packet from the address, to it, or an ICMP error about one; with its time since 1970 where it is known."""

    def missed(self) -> None:
        """The kernel dropped packets, perhaps of this address."""


class Wire:
    """What passes this machine's interfaces, dealt out by address."""

    def __init__(self, sock: socket.socket) -> None:
        self.listeners: dict[bytes, Listener] = {}  # by the packed address
        self.tcp: Callable[[bytes], None] | None = None  # takes incoming TCP to `tcp_ports`, from its IP header on
        self.icmp: Callable[[Packet, Packet], None] | None = None  # takes ICMP errors, with what they quote
        self.tcp_ports: frozenset[bytes] = frozenset()  # ports of ours as they stand in a header
        self._sock = sock
        self._users = 0
        with suppress(OSError):  # it needs one more right than the socket itself
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _KERNEL_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read)

    def close(self) -> None:
        """End."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()

    @property
    def dropped(self) -> int:
        """How many packets it was too full for, so far."""
        return dropped(self._sock)

    def settle(self) -> None:
        """Deal out what still lies in the kernel, and tell everybody where it dropped something."""
        for _ in range(_DRAIN):
            if not self._read():
                break
        with suppress(OSError):
            _, dropped = _STATISTICS.unpack(self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
            if dropped:
                for listener in self.listeners.values():
                    listener.missed()

    def _read(self) -> bool:
        """Read a batch; whether more may lie there."""
        for _ in range(_BATCH):
            try:
                raw, ancillary, _, source = self._sock.recvmsg(_LARGEST, 64)
            except OSError:  # nothing more, or an interface went down
                return False
            name, protocol, direction = source[:3]
            if protocol not in (_IPV4, _IPV6) or (direction == _OUTGOING and name == "lo"):
                continue  # on the loopback device each packet is seen twice: going out, and coming in
            if direction != _OUTGOING and self.tcp is not None and self._is_for_tcp(raw):
                self.tcp(raw)
            listener = self._listener(raw, incoming=direction != _OUTGOING)
            if listener is not None:
                listener.take(raw, _stamp(ancillary))
        return True

    def _is_for_tcp(self, raw: bytes) -> bool:
        if len(raw) < 40:
            return False
        protocol, start = (raw[9], (raw[0] & 0x0F) * 4) if raw[0] >> 4 == 4 else (raw[6], 40)
        return protocol == TCP and raw[start + 2 : start + 4] in self.tcp_ports

    def _listener(self, raw: bytes, *, incoming: bool) -> Listener | None:
        """Whose packet it is; an ICMP error belongs to whom it quotes."""
        if len(raw) < 20:
            return None
        if raw[0] >> 4 == 4:
            protocol, source, destination = raw[9], raw[12:16], raw[16:20]
        else:
            protocol, source, destination = raw[6], raw[8:24], raw[24:40]
        if protocol in _ICMP_PROTOCOLS:
            packet = parse(raw)
            quoted = packet.quoted if packet is not None else None
            if packet is not None and quoted is not None:
                if incoming and self.icmp is not None:
                    self.icmp(packet, quoted)
                return self.listeners.get(quoted.destination.packed)
        return self.listeners.get(destination) or self.listeners.get(source)


def dropped(sock: socket.socket) -> int:
    """How many packets the kernel has dropped because the socket was full; 0 where it does not count them."""
    try:
        info = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return 0
    return int(_MEMINFO.unpack(info)[-1]) if len(info) == _MEMINFO.size else 0


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, _, data in ancillary:
        if level == socket.SOL_SOCKET and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return None


_WIRES: WeakKeyDictionary[Gate, Wire] = WeakKeyDictionary()


@asynccontextmanager
async def wired(gate: Gate) -> AsyncIterator[Wire | None]:
    """The gate's wire while the block runs, the same for all who want it; None where this process may not."""
    wire = _WIRES.get(gate)
    if wire is None:
        sock = gate.packet_capture()
        if sock is None:
            yield None
            return
        wire = _WIRES[gate] = Wire(sock)
    wire._users += 1
    try:
        yield wire
    finally:
        wire._users -= 1
        if not wire._users:
            del _WIRES[gate]
            wire.close()

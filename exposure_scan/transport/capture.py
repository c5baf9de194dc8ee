"""What passed the wire while we asked, kept as a pcap, and one flow read back from a pcap.

The record of a conversation is what our own program saw. The capture is what the kernel saw, and
anybody's tool can open it. Packets start at their IP header (link type 101): that is all that
matters here, and lines without Ethernet (tunnels, PPP) need no invented header.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from exposure_scan.conversation import Event, endpoint_text
from exposure_scan.model import Address, Target

from .gate import Gate
from .icmp import IcmpError

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
_TCP, _UDP, _FRAGMENT = 6, 17, 44  # IPv6 says 44 itself; of IPv4 all fragments but the first are meant
_ICMP = MappingProxyType({1: (3, 11, 12), 58: (1, 2, 3, 4)})  # protocol: the types that are errors


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
            packet = _parse(raw)
            if packet is None or packet.protocol != _TCP or len(packet.body) < 20:
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
        packet = _parse(raw)
        if packet is None:
            return False
        if (quoted := packet.quoted) is not None:
            return quoted.destination in self._addresses and self._in_a_flow(quoted)
        return self._in_a_flow(packet)

    def _in_a_flow(self, packet: _Packet) -> bool:
        if packet.protocol in (*_ICMP, _FRAGMENT):
            return bool(self._addresses & {packet.source, packet.destination})
        if packet.protocol not in (_TCP, _UDP) or len(packet.body) < 4:
            return False
        near, far = struct.unpack_from("!HH", packet.body)
        return (
            packet.destination in self._addresses and self._gate.is_ours(packet.protocol, near, packet.destination, far)
        ) or (packet.source in self._addresses and self._gate.is_ours(packet.protocol, far, packet.source, near))


@dataclass(frozen=True, slots=True)
class _Packet:
    """What matters of an IP packet; `body` follows the IP header."""

    source: Address
    destination: Address
    protocol: int
    body: bytes

    @property
    def quoted(self) -> _Packet | None:
        """The packet that an ICMP error quotes; None for any other."""
        errors = _ICMP.get(self.protocol, ())
        return _parse(self.body[8:]) if len(self.body) > 8 and self.body[0] in errors else None


def _parse(raw: bytes) -> _Packet | None:
    """Read an IP packet, without the padding of short Ethernet frames; None if it is none."""
    if len(raw) >= 20 and raw[0] >> 4 == 4:
        start, length, fragment = (raw[0] & 0x0F) * 4, *struct.unpack_from("!H2xH", raw, 2)
        protocol = _FRAGMENT if fragment & 0x1FFF else raw[9]
        end = length or len(raw)  # 0 where the network card cuts the segments
        return _Packet(IPv4Address(raw[12:16]), IPv4Address(raw[16:20]), protocol, raw[max(20, start) : end])
    if len(raw) >= 40 and raw[0] >> 4 == 6:
        end = 40 + (struct.unpack_from("!H", raw, 4)[0] or len(raw))
        return _Packet(IPv6Address(raw[8:24]), IPv6Address(raw[24:40]), raw[6], raw[40:end])
    return None


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


# --- reading a flow back --------------------------------------------------------------------------


def read_events(
    path: Path, *, kind: Literal["tcp", "udp", "icmp"], local: tuple[str, int], peer: tuple[str, int]
) -> list[Event]:
    """The events of one flow of a pcap or pcapng file, fit for `conversation.replay`.

    A capture has no marks for silence, and TLS in it stays enciphered. For icmp the ports are ignored.

    Args:
        path: the file.
        kind: which transport.
        local: our address and port.
        peer: the other's.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no capture.
    """
    flow = _FLOWS[kind](local, peer)
    for at, packet in _packets(path):
        flow.see(at, packet)
    return flow.events


def _packets(path: Path) -> Iterator[tuple[float, _Packet]]:
    """Time in seconds and content of each packet that is one of IP."""
    from scapy.error import Scapy_Exception
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import CookedLinux, Ether
    from scapy.utils import RawPcapReader

    first_layers = {1: (Ether, 14), 113: (CookedLinux, 16)}
    with open(path, "rb") as file:
        try:
            for data, meta in (reader := RawPcapReader(file)):
                linktype = getattr(meta, "linktype", None) or getattr(reader, "linktype", 101)
                if linktype in first_layers:
                    first, header = first_layers[linktype]
                    layers = first(data) if len(data) >= header else None
                    layer = layers and (layers.getlayer(IP) or layers.getlayer(IPv6))
                    data = layer.original if layer else b""
                packet = _parse(data)
                if packet is not None:
                    yield _stamp(meta, getattr(reader, "nano", False)), packet
        except (Scapy_Exception, struct.error) as error:
            raise ValueError(f"{path} is no capture: {error}") from None


def _stamp(meta: Any, nano: bool) -> float:
    if hasattr(meta, "sec"):
        return float(meta.sec) + float(meta.usec) / (1e9 if nano else 1e6)
    ticks = (int(meta.tshigh or 0) << 32) + int(meta.tslow or 0)  # pcapng
    return ticks / float(meta.tsresol or 1_000_000)


class _Flow:
    """Collects the events of one flow; the first packet is at 0 ms."""

    def __init__(self, local: tuple[str, int], peer: tuple[str, int]) -> None:
        self.events: list[Event] = []
        self._ends = (_address(local), local[1]), (_address(peer), peer[1])
        self._connected = f"{endpoint_text(local)} {endpoint_text(peer)}"
        self._zero: float | None = None
        self._at = 0.0

    def see(self, at: float, packet: _Packet) -> None:
        raise NotImplementedError

    def _mark(self, at: float) -> None:
        if self._zero is None:
            self._zero = at
        self._at = (at - self._zero) * 1000

    def _note(self, what: Any, data: bytes = b"", detail: str = "") -> None:
        self.events.append(Event(self._at, what, data, detail))

    def _outward(self, source: tuple[Address, int], destination: tuple[Address, int]) -> bool | None:
        """True for ours, False for the peer's, None for another flow."""
        if (source, destination) == self._ends:
            return True
        return False if (destination, source) == self._ends else None

    def _note_error(self, at: float, packet: _Packet, protocol: int) -> IcmpError | None:
        """Note an ICMP error that quotes a packet of ours; it comes back if it says that this did not arrive."""
        quoted = packet.quoted
        if quoted is None or quoted.protocol != protocol or len(quoted.body) < 4:
            return None
        near, far = struct.unpack_from("!HH", quoted.body)
        if self._outward((quoted.source, near), (quoted.destination, far)) is not True:
            return None
        self._mark(at)
        error = IcmpError(packet.body[0], packet.body[1], packet.source)
        self._note("icmp", detail=error.detail)
        return error if error.refuses else None


class _Datagrams(_Flow):
    def see(self, at: float, packet: _Packet) -> None:
        if packet.protocol in _ICMP:
            if self._note_error(at, packet, _UDP) is not None:
                self._note("reset")
            return
        if packet.protocol != _UDP or len(packet.body) < 8:
            return
        near, far, length = struct.unpack_from("!HHH", packet.body)
        outward = self._outward((packet.source, near), (packet.destination, far))
        if outward is None:
            return
        self._mark(at)
        if not self.events:
            self._note("connected", detail=self._connected)
        self._note("sent" if outward else "received", packet.body[8 : max(8, length)])


class _Echoes(_Flow):
    def see(self, at: float, packet: _Packet) -> None:
        message = packet.body
        if packet.protocol not in _ICMP or len(message) < 8:
            return
        ours, peers = self._ends[0][0], self._ends[1][0]
        ends = packet.source, packet.destination
        if message[0] in (8, 128) and ends == (ours, peers):
            outward = True
        elif message[0] in (0, 129) and ends == (peers, ours):
            outward = False
        else:
            return
        self._mark(at)
        if not self.events:
            self._note("connected", detail=self._connected)
        if outward and message[0] == 128:  # we send it without a checksum, and the kernel fills it in
            message = message[:2] + b"\0\0" + message[4:]
        self._note("sent" if outward else "received", message)


class _Stream(_Flow):
    """Puts both directions in order, and drops what was sent twice (RFC 9293, section 3.4)."""

    def __init__(self, local: tuple[str, int], peer: tuple[str, int]) -> None:
        super().__init__(local, peer)
        self._next: dict[bool, int] = {}  # the sequence number expected, by direction
        self._early: dict[bool, dict[int, tuple[bytes, bool]]] = {True: {}, False: {}}
        self._open = False
        self._ended = False

    def see(self, at: float, packet: _Packet) -> None:
        if packet.protocol in _ICMP:
            error = self._note_error(at, packet, _TCP)
            if error is not None and not self._open and not self._ended:
                self._end("not-connected", error.reason)
            return
        body = packet.body
        if packet.protocol != _TCP or len(body) < 20:
            return
        near, far, sequence = struct.unpack_from("!HHI", body)
        outward = self._outward((packet.source, near), (packet.destination, far))
        if outward is None:
            return
        self._mark(at)
        fin, syn, reset = (bool(body[13] & bit) for bit in (1, 2, 4))
        if syn:
            self._next.setdefault(outward, (sequence + 1) % 2**32)
            if not outward and not self._open and not self._ended:
                self._open = True
                self._note("connected", detail=self._connected)
            return
        if reset:
            if not outward and not self._ended:
                self._end(*(("reset", "") if self._open else ("not-connected", "rst")))
            return
        data = body[(body[12] >> 4) * 4 :]
        if self._open and outward in self._next and (data or fin):
            self._early[outward].setdefault(sequence, (b"", False))
            known, ended = self._early[outward][sequence]
            self._early[outward][sequence] = (max(known, data, key=len), ended or fin)
            self._deliver(outward)

    def _deliver(self, outward: bool) -> None:
        """Pass on what follows without a gap."""
        waiting = self._early[outward]
        progress = True
        while progress:
            progress = False
            for sequence in list(waiting):
                ahead = (sequence - self._next[outward] + 2**31) % 2**32 - 2**31  # signed distance
                if ahead > 0:
                    continue
                data, fin = waiting.pop(sequence)
                fresh = data[-ahead:] if ahead else data
                if len(data) + ahead < 0:
                    continue  # all of it was seen before
                self._next[outward] = (self._next[outward] + len(fresh)) % 2**32
                progress = progress or bool(fresh)
                if fresh and not self._ended:
                    self._note("sent" if outward else "received", fresh)
                if fin:
                    self._next[outward] = (self._next[outward] + 1) % 2**32
                    if not outward and not self._ended:
                        self._end("closed")

    def _end(self, what: Any, detail: str = "") -> None:
        self._ended = what != "closed"  # after the peer's FIN we may still send
        self._note(what, detail=detail)


_FLOWS: dict[str, type[_Flow]] = {"tcp": _Stream, "udp": _Datagrams, "icmp": _Echoes}


def _address(endpoint: tuple[str, int]) -> Address:
    return IPv6Address(endpoint[0]) if ":" in endpoint[0] else IPv4Address(endpoint[0])

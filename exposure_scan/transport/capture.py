"""What passed the wire while we asked, kept as a pcap, and one flow read back from a pcap.

The record of a conversation is what our own program saw. The capture is what the kernel saw, and
anybody's tool can open it. Packets start at their IP header (link type 101): that is all that
matters here, and lines without Ethernet (tunnels, PPP) need no invented header.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
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
_TCP, _UDP = 6, 17


class Capture:
    """The packets between this machine's gate and its targets, as long as it runs.

    Another program may talk to the same address: what the gate opened no socket for is not kept.
    """

    def __init__(self, gate: Gate, sock: socket.socket, targets: Iterable[Target]) -> None:
        self.truncated = False  # more came than is kept
        self._gate = gate
        self._sock = sock
        self._addresses = {target.address.packed: target.address for target in targets}
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

    def write(self, path: Path) -> None:
        """Write a pcap that only its owner can read (mode 0600).

        Raises:
            OSError: it cannot be written.
        """
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o600)
            file.write(self.pcap())

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

    def _wanted(self, packet: bytes) -> bool:
        """To or from a target, in a flow of ours; ICMP errors that quote such a packet count too."""
        parsed = _parse(packet)
        if parsed is None:
            return False
        source, destination, protocol, body = parsed
        inward, outward = self._addresses.get(source), self._addresses.get(destination)
        if protocol in (_TCP, _UDP) and len(body) >= 4:
            near, far = struct.unpack_from("!HH", body)
            return (outward is not None and self._gate.is_ours(protocol, near, outward, far)) or (
                inward is not None and self._gate.is_ours(protocol, far, inward, near)
            )
        if inward is not None or outward is not None:
            return True  # echo, and fragments, which carry no ports
        return protocol in (1, 58) and self._wanted_quote(body)

    def _wanted_quote(self, message: bytes) -> bool:
        """A router's ICMP error: the packet that it quotes starts after eight bytes."""
        quoted = _parse(message[8:]) if len(message) > 8 and message[0] in (1, 2, 3, 4, 11, 12) else None
        return quoted is not None and quoted[1] in self._addresses


def _parse(packet: bytes) -> tuple[bytes, bytes, int, bytes] | None:
    """Source, destination, protocol and what follows the IP header; a fragment has protocol 44."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        fragment = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF
        protocol = 44 if fragment else packet[9]
        return packet[12:16], packet[16:20], protocol, packet[(packet[0] & 0x0F) * 4 :]
    if len(packet) >= 40 and packet[0] >> 4 == 6:
        return packet[8:24], packet[24:40], packet[6], packet[40:]
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


def _packets(path: Path) -> Iterator[tuple[float, Any]]:
    """Time in seconds and IP layer of each packet that has one."""
    from scapy.error import Scapy_Exception
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import CookedLinux, Ether
    from scapy.utils import RawPcapReader

    first_layers = {1: Ether, 113: CookedLinux}
    try:
        reader = RawPcapReader(str(path))
    except Scapy_Exception as error:
        raise ValueError(f"{path} is no capture: {error}") from None
    with reader:
        for data, meta in reader:
            linktype = getattr(meta, "linktype", None) or getattr(reader, "linktype", 101)
            if linktype in first_layers:
                layers = first_layers[linktype](data)
                packet = layers.getlayer(IP) or layers.getlayer(IPv6)
            elif data:
                packet = (IPv6 if data[0] >> 4 == 6 else IP)(data)
            else:
                packet = None
            if packet is not None:
                yield _stamp(meta), packet


def _stamp(meta: Any) -> float:
    if hasattr(meta, "sec"):
        return float(meta.sec) + float(meta.usec) / 1e6
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

    def see(self, at: float, packet: Any) -> None:
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

    def _note_icmp(self, at: float, packet: Any, protocol: int) -> bool:
        """Note an ICMP error that quotes a packet of ours; whether it says that it did not arrive."""
        message = _body(packet)
        if len(message) < 8 + 20 or message[0] not in ((3, 11, 12) if packet.version == 4 else (1, 2, 3, 4)):
            return False
        quoted = _parse(message[8:])
        if quoted is None or quoted[2] != protocol or len(quoted[3]) < 4:
            return False
        source, destination, _, body = quoted
        near, far = struct.unpack_from("!HH", body)
        if self._outward((_from_bytes(source), near), (_from_bytes(destination), far)) is not True:
            return False
        self._mark(at)
        error = IcmpError(message[0], message[1], _address((packet.src, 0)))
        self._note("icmp", detail=error.detail)
        return error.refuses


class _Datagrams(_Flow):
    def see(self, at: float, packet: Any) -> None:
        body = _body(packet)
        if _protocol(packet) in (1, 58):
            if self._note_icmp(at, packet, _UDP):
                self._note("reset")
            return
        if _protocol(packet) != _UDP or len(body) < 8:
            return
        near, far, length = struct.unpack_from("!HHH", body)
        outward = self._outward((_address((packet.src, 0)), near), (_address((packet.dst, 0)), far))
        if outward is None:
            return
        self._mark(at)
        if not self.events:
            self._note("connected", detail=self._connected)
        self._note("sent" if outward else "received", body[8 : max(8, length)])


class _Echoes(_Flow):
    def see(self, at: float, packet: Any) -> None:
        message = _body(packet)
        if _protocol(packet) not in (1, 58) or len(message) < 8:
            return
        ours, peers = self._ends[0][0], self._ends[1][0]
        source, destination = _address((packet.src, 0)), _address((packet.dst, 0))
        if message[0] in (8, 128) and (source, destination) == (ours, peers):
            outward = True
        elif message[0] in (0, 129) and (source, destination) == (peers, ours):
            outward = False
        else:
            return
        self._mark(at)
        if not self.events:
            self._note("connected", detail=self._connected)
        self._note("sent" if outward else "received", message)


class _Stream(_Flow):
    """Puts both directions in order, and drops what was sent twice (RFC 9293, section 3.4)."""

    def __init__(self, local: tuple[str, int], peer: tuple[str, int]) -> None:
        super().__init__(local, peer)
        self._next: dict[bool, int] = {}  # the sequence number expected, by direction
        self._early: dict[bool, dict[int, tuple[bytes, bool]]] = {True: {}, False: {}}
        self._open = False
        self._ended = False

    def see(self, at: float, packet: Any) -> None:
        body = _body(packet)
        if _protocol(packet) in (1, 58):
            if self._note_icmp(at, packet, _TCP) and not self._open and not self._ended:
                self._end(
                    "not-connected",
                    IcmpError(_body(packet)[0], _body(packet)[1], _address((packet.src, 0))).reason,
                )
            return
        if _protocol(packet) != _TCP or len(body) < 20:
            return
        near, far, sequence = struct.unpack_from("!HHI", body)
        outward = self._outward((_address((packet.src, 0)), near), (_address((packet.dst, 0)), far))
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


def _protocol(packet: Any) -> int:
    return int(packet.proto if packet.version == 4 else packet.nh)


def _body(packet: Any) -> bytes:
    """What follows the IP header, without the padding of short Ethernet frames."""
    raw: bytes = packet.original or bytes(packet)
    if packet.version == 4:
        end = int(packet.len) or len(raw)  # 0 where the network card cuts the segments
        return raw[int(packet.ihl) * 4 : end]
    return raw[40 : 40 + int(packet.plen)] if packet.plen else raw[40:]


def _address(endpoint: tuple[str, int]) -> Address:
    return IPv6Address(endpoint[0]) if ":" in endpoint[0] else IPv4Address(endpoint[0])


def _from_bytes(packed: bytes) -> Address:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)

"""IPv4 packets as bytes: taken apart, changed and made, with their checksums. No sockets.

Just what the line's faults need (RFC 791, RFC 768, RFC 792, RFC 9293). Fragments and IP options are
carried, and never made.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

ICMP, TCP, UDP = 1, 6, 17
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
ECHO_REPLY, UNREACHABLE, ECHO, TIME_EXCEEDED = 0, 3, 8, 11  # ICMP types
HOST_UNREACHABLE, PORT_UNREACHABLE, ADMIN_PROHIBITED = 1, 3, 13  # codes of UNREACHABLE

_IP = struct.Struct("!BBHHHBBH4s4s")
_TCP = struct.Struct("!HHIIBBHHH")
_QUOTED = 8  # bytes of the offending packet behind its IP header (RFC 792)
_CHECKSUM_AT = {ICMP: 2, TCP: 16, UDP: 6}


@dataclass(frozen=True, slots=True)
class Packet:
    """An IPv4 packet taken apart; `body` is all that follows its header."""

    source: str
    destination: str
    protocol: int
    body: bytes
    ttl: int = 64

    @property
    def ports(self) -> tuple[int, int] | None:
        """Source and destination port of TCP and UDP."""
        if self.protocol not in (TCP, UDP) or len(self.body) < 8:
            return None
        near, far = struct.unpack_from("!HH", self.body)
        return near, far

    @property
    def key(self) -> str:
        """What it asks for, as ``tcp/25``, ``udp/5060`` or ``icmp``."""
        if self.ports is None:
            return "icmp" if self.protocol == ICMP else f"ip/{self.protocol}"
        return f"{'tcp' if self.protocol == TCP else 'udp'}/{self.ports[1]}"

    @property
    def icmp(self) -> tuple[int, int] | None:
        """Type and code of an ICMP message."""
        return (self.body[0], self.body[1]) if self.protocol == ICMP and len(self.body) >= 8 else None

    @property
    def is_error(self) -> bool:
        """Whether it is an ICMP error, which must not be answered by another one (RFC 1122, 3.2.2)."""
        return self.icmp is not None and self.icmp[0] not in (ECHO, ECHO_REPLY)

    @property
    def segment(self) -> Segment | None:
        """Its TCP segment."""
        if self.protocol != TCP or len(self.body) < _TCP.size:
            return None
        near, far, seq, ack, offset, flags, window, _, _ = _TCP.unpack_from(self.body)
        return Segment(near, far, seq, ack, flags, window, self.body[(offset >> 4) * 4 :])

    @property
    def payload(self) -> bytes:
        """What it carries for the program: behind the UDP header, or in the TCP segment."""
        if self.segment is not None:
            return self.segment.data
        return self.body[8:] if self.protocol == UDP else b""


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment without options."""

    source: int
    destination: int
    seq: int
    ack: int
    flags: int
    window: int = 0
    data: bytes = b""


def read(raw: bytes) -> Packet | None:
    """The packet in these bytes; None for what is no whole IPv4 packet or is a later fragment."""
    if len(raw) < _IP.size or raw[0] >> 4 != 4:
        return None
    _, _, length, _, fragment, ttl, protocol, _, source, destination = _IP.unpack_from(raw)
    header = (raw[0] & 0x0F) * 4
    if header < _IP.size or not header <= length <= len(raw) or fragment & 0x1FFF:
        return None
    return Packet(str(IPv4Address(source)), str(IPv4Address(destination)), protocol, raw[header:length], ttl)


def write(packet: Packet) -> bytes:
    """The bytes of a packet, its header and its body with fresh checksums."""
    source, destination = IPv4Address(packet.source).packed, IPv4Address(packet.destination).packed
    body, at = packet.body, _CHECKSUM_AT.get(packet.protocol)
    if at is not None and len(body) >= at + 2:
        blank = body[:at] + b"\0\0" + body[at + 2 :]
        pseudo = (
            b"" if packet.protocol == ICMP else source + destination + struct.pack("!HH", packet.protocol, len(body))
        )
        body = blank[:at] + struct.pack("!H", checksum(pseudo + blank) or 0xFFFF) + blank[at + 2 :]
    fields = (0x45, 0, _IP.size + len(body), 0, 0x4000, packet.ttl, packet.protocol)
    head = _IP.pack(*fields, checksum(_IP.pack(*fields, 0, source, destination)), source, destination)
    return head + body


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def with_ttl(raw: bytes, ttl: int) -> bytes:
    """The same packet with another time to live: options, fragments and body stay."""
    header = (raw[0] & 0x0F) * 4
    head = raw[:8] + bytes([ttl]) + raw[9:10] + b"\0\0" + raw[12:header]
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + raw[header:]


def icmp_error(about: bytes, kind: int, code: int, sender: str) -> bytes:
    """The ICMP error about a packet, from `sender` to the packet's source (RFC 792)."""
    quoted = about[: (about[0] & 0x0F) * 4 + _QUOTED]
    to = str(IPv4Address(about[12:16]))
    return write(Packet(sender, to, ICMP, struct.pack("!BBHI", kind, code, 0, 0) + quoted))


def tcp(segment: Segment, source: str, destination: str, ttl: int = 64) -> bytes:
    """A packet with a TCP segment."""
    head = _TCP.pack(
        segment.source,
        segment.destination,
        segment.seq & 0xFFFFFFFF,
        segment.ack & 0xFFFFFFFF,
        _TCP.size // 4 << 4,
        segment.flags,
        segment.window,
        0,
        0,
    )
    return write(Packet(source, destination, TCP, head + segment.data, ttl))


def udp(near: int, far: int, data: bytes, source: str, destination: str) -> bytes:
    """A packet with a UDP datagram."""
    return write(Packet(source, destination, UDP, struct.pack("!HHHH", near, far, 8 + len(data), 0) + data))

"""Capture files byte by byte, and the packets in them. All of it is synthetic."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from ipaddress import ip_address

from exposure_scan.transport import Packet, read_packets

HOST, OURS = ip_address("198.51.100.10"), ip_address("198.51.100.250")
HOST6, OURS6 = ip_address("2001:db8::10"), ip_address("2001:db8::250")
UDP, ICMP, RAW = 17, 1, 101
START = 1_000_000_000  # seconds since 1970

Record = tuple[float, bytes]


def ip4(body: bytes, protocol: int = UDP, *, fragment: int = 0, identification: int = 7) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), identification, fragment, 64, protocol, 0)
    return head + OURS.packed + HOST.packed + body


def ip6(body: bytes, following: int = UDP) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(body), following, 64) + OURS6.packed + HOST6.packed + body


def udp(data: bytes) -> bytes:
    return struct.pack("!HHHH", 40000, 5060, 8 + len(data), 0) + data


def pcap(records: Iterable[Record], link: int = RAW, *, order: str = "<", wire: int = 0) -> bytes:
    """A classic capture; `wire` is the length of each packet before it was cut, 0 where none was."""
    whole = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    for at, data in records:
        part = round(at % 1 * 1_000_000)
        whole += struct.pack(order + "IIII", START + int(at), part, len(data), wire or len(data)) + data
    return whole


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    size = 12 + len(body) + -len(body) % 4
    return struct.pack(order + "II", kind, size) + body + bytes(-len(body) % 4) + struct.pack(order + "I", size)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link: int, *options: tuple[int, bytes], order: str = "<", kept: int = 0) -> bytes:
    body = struct.pack(order + "HHI", link, 0, kept)
    for code, value in options:
        body += struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
    return block(1, body + bytes(4), order)


def captured(which: int, ticks: int, data: bytes, order: str = "<", wire: int = 0) -> bytes:
    body = struct.pack(order + "IIIII", which, ticks >> 32, ticks & 0xFFFFFFFF, len(data), wire or len(data)) + data
    return block(6, body, order)


def read(content: bytes) -> list[Packet]:
    return list(read_packets(io.BytesIO(content), "c.pcap"))


def of(*raws: bytes) -> bytes:
    """A capture with a packet every millisecond."""
    return pcap((number / 1000, raw) for number, raw in enumerate(raws))


FOUR, SIX = ip4(udp(b"OPTIONS")), ip6(udp(b"OPTIONS"))

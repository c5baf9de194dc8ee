"""The classic pcap file as we write it: little-endian, microseconds, packets from their IP header on.

That is link type 101 of the tcpdump.org list. Files of other tools are read by `packets.read_packets`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from .packets import Packet, parse

HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)
_ENTRY = struct.Struct("<IIII")
ENTRY_HEADER = _ENTRY.size  # bytes before the packet


def entry(raw: bytes, microseconds: int) -> bytes:
    """One packet of the file, captured at so many microseconds since 1970."""
    return _ENTRY.pack(*divmod(microseconds, 1_000_000), len(raw), len(raw)) + raw


def raw_packets(entries: Iterable[bytes]) -> Iterator[Packet]:
    """The packets of what `entry` gave, numbered from 1."""
    for number, whole in enumerate(entries, start=1):
        seconds, micros, _, _ = _ENTRY.unpack_from(whole)
        packet = parse(whole[ENTRY_HEADER:], (number,), seconds + micros / 1_000_000)
        if packet is not None:
            yield packet

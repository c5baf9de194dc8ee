"""The classic pcap file as we write it: little-endian, microseconds, packets from their IP header on.

That is link type 101 of the tcpdump.org list. Files of other tools are read by `packets.read_packets`. A part of a
file can be cut into one of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from exposure_scan.model.ranges import joined_ranges

from .recording import CLASSIC

HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)
_ENTRY = struct.Struct("<IIII")
ENTRY_HEADER = _ENTRY.size  # bytes before the packet


def entry(raw: bytes, microseconds: int) -> bytes:
    """One packet of the file, captured at so many microseconds since 1970."""
    return _ENTRY.pack(*divmod(microseconds, 1_000_000), len(raw), len(raw)) + raw


def stamp_of(whole: bytes) -> float:
    """When the packet of an entry was captured, seconds since 1970."""
    seconds, micros, _, _ = _ENTRY.unpack_from(whole)
    return float(seconds + micros / 1_000_000)


def cut(capture: bytes, frames: Iterable[range]) -> bytes:
    """The packets with these numbers, as a pcap with the same link type, times and byte order.

    Args:
        capture: a pcap file of the classic form.
        frames: numbers of packets, from 1; in any order.

    Raises:
        ValueError: it is no such file, it ends in the middle of a packet, or it has no packet of such a number.
    """
    order, _ = CLASSIC.get(capture[:4], ("", 0))
    if not order or len(capture) < len(HEADER):
        raise ValueError("the capture is no pcap file")
    wanted = joined_ranges(frames)
    length = struct.Struct(f"{order}8xI4x")
    pieces, at, number = [capture[: len(HEADER)]], len(HEADER), 1
    for one in wanted:
        while number < one.stop:
            if at == len(capture):
                raise ValueError(f"packet {number} is not in the capture, which has {number - 1:,}")
            end = at + ENTRY_HEADER
            end += length.unpack_from(capture, at)[0] if end <= len(capture) else 0
            if end > len(capture):
                raise ValueError(f"the capture ends in the middle of packet {number}")
            if number >= one.start:
                pieces.append(capture[at:end])
            at, number = end, number + 1
    return b"".join(pieces)

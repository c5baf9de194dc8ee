"""A part of a capture as a capture of its own, so that one conversation can be opened alone."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from exposure_scan.model.ranges import joined_ranges

# The magic number tells the byte order and whether times are in micro- or nanoseconds (the libpcap
# file format). Both are kept, since header and records are copied as they are.
_ORDERS = {
    b"\xd4\xc3\xb2\xa1": "<",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\xa1\xb2\x3c\x4d": ">",
}
_HEADER, _RECORD = 24, 16  # bytes


def cut(capture: bytes, frames: Iterable[range]) -> bytes:
    """The packets with these numbers, as a pcap with the same link type, times and byte order.

    Args:
        capture: a pcap file of the classic form.
        frames: numbers of packets, from 1; in any order.

    Raises:
        ValueError: it is no such file, it ends in the middle of a packet, or it has no packet of such a number.
    """
    order = _ORDERS.get(capture[:4])
    if order is None or len(capture) < _HEADER:
        raise ValueError("the capture is no pcap file")
    wanted = joined_ranges(frames)
    length = struct.Struct(f"{order}8xI4x")
    pieces, at, number = [capture[:_HEADER]], _HEADER, 1
    for one in wanted:
        while number < one.stop:
            if at == len(capture):
                raise ValueError(f"packet {number} is not in the capture, which has {number - 1:,}")
            end = at + _RECORD
            end += length.unpack_from(capture, at)[0] if end <= len(capture) else 0
            if end > len(capture):
                raise ValueError(f"the capture ends in the middle of packet {number}")
            if number >= one.start:
                pieces.append(capture[at:end])
            at, number = end, number + 1
    return b"".join(pieces)

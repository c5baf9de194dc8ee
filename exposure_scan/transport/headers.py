"""Checksums of packets that are made here."""

from __future__ import annotations

import struct


def checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def summed(source: bytes, destination: bytes, protocol: int, body: bytes) -> bytes:
    """The checksum over the pseudo-header of packed addresses and the body (RFC 9293, 3.1; RFC 8200, 8.1)."""
    form = "!HH" if len(source) == 4 else "!II"
    numbers = (protocol, len(body)) if len(source) == 4 else (len(body), protocol)
    return checksum(source + destination + struct.pack(form, *numbers) + body)

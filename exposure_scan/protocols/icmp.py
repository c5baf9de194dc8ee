"""ICMP echo (RFC 792; RFC 4443, section 4). The payload is what ties a reply to us.

An unprivileged ping socket writes an id of its own into the request, so the id says nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from functools import partial

from exposure_scan.conversation import Observation, Reply, Request

from .datagram import inquire
from .words import NAME, unique

_HEADER = struct.Struct("!BBHHH")
_REQUEST_AND_REPLY = {4: (8, 0), 6: (128, 129)}


def echo(token: str, version: int) -> Generator[Request, Reply, Observation]:
    """Ping over IPv4 (`version` 4) or IPv6 (6). `valid` is true on a reply to us; the service stays None.

    Over IPv6 the checksum is left at 0: it covers addresses that only the kernel knows, and it fills it in.
    """
    asks, _ = _REQUEST_AND_REPLY[version]
    payload = f"{NAME} ".encode("ascii") + unique(token, "echo", size=16)
    id_ = int.from_bytes(unique(token, "echo-id", size=2))
    request = _HEADER.pack(asks, 0, 0, id_, 1) + payload
    if version == 4:
        request = _HEADER.pack(asks, 0, checksum(request), id_, 1) + payload
    return (yield from inquire("ICMP echo", request, partial(read, request)))


def read(request: bytes, data: bytes) -> Observation | None:
    """Whether `data` is the reply to `request`; None where it is not. The identifiers are not compared."""
    if min(len(request), len(data)) < _HEADER.size or (request[0], data[0]) not in _REQUEST_AND_REPLY.values():
        return None
    if data[1] != 0 or data[_HEADER.size :] != request[_HEADER.size :]:
        return None
    return Observation(answered=True, valid=True)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of a message whose checksum field is 0."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

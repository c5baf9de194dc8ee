"""Whether the cable is in: the carrier of the device that leads to a host.

A route stays where a cable is pulled, and so does every send succeed: what nobody could hear would read as silence.
The kernel counts the changes, so two looks tell whether the carrier was away in between. Source: rtnetlink(7),
linux/if_link.h.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from exposure_scan.model import Address

LOST = "no carrier"  # in a reason, after "local-error: "

_FRESH = 0.01  # seconds for which a look counts
_GET_LINK, _GET_ROUTE, _NEW_LINK, _NEW_ROUTE = 18, 26, 16, 24  # linux/rtnetlink.h RTM_*
_REQUEST = 0x1  # linux/netlink.h NLM_F_REQUEST
_TO, _DEVICE = 1, 4  # RTA_DST, RTA_OIF
_CARRIER, _CHANGES = 33, 35  # IFLA_CARRIER, IFLA_CARRIER_CHANGES
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, bits of the destination, ...
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_LARGEST = 65536


class Carrier(NamedTuple):
    """A device, by its number, with its carrier: whether it is there, and how often that has changed."""

    device: int
    there: bool
    changes: int


class Carriers:
    """The carriers of this machine's devices.

    Args:
        open_kernel: gives a routing socket (AF_NETLINK, NETLINK_ROUTE), or raises OSError.
    """

    def __init__(self, open_kernel: Callable[[], socket.socket]) -> None:
        self._open = open_kernel
        self._seen: dict[int, tuple[float, Carrier | None]] = {}  # by device: when it was looked at, and what it was

    def towards(self, address: Address) -> Carrier | None:
        """That of the device that leads to an address; None where the kernel does not tell."""
        try:
            with closing(self._open()) as kernel:
                device = _device(kernel, address)
        except OSError:
            return None
        return None if device is None else self._look(device)

    def held(self, before: Carrier | None) -> bool:
        """Whether it has been there since; true where nothing is known."""
        return before is None or (before.there and self._look(before.device) == before)

    def _look(self, device: int) -> Carrier | None:
        at, seen = self._seen.get(device, (0.0, None))
        now = time.monotonic()
        if now - at > _FRESH:
            try:
                with closing(self._open()) as kernel:
                    seen = _carrier(kernel, device)
            except OSError:
                seen = None
            self._seen[device] = now, seen
        return seen


def _device(kernel: socket.socket, address: Address) -> int | None:
    family, bits = (socket.AF_INET, 32) if address.version == 4 else (socket.AF_INET6, 128)
    to = _ATTRIBUTE.pack(_ATTRIBUTE.size + bits // 8, _TO) + address.packed
    route = _ask(kernel, _GET_ROUTE, _NEW_ROUTE, _ROUTE.pack(family, bits, 0, 0, 0, 0, 0, 0, 0) + to)
    device = dict(_attributes(route, _ROUTE.size)).get(_DEVICE, b"")
    return int.from_bytes(device, sys.byteorder) if len(device) == 4 else None


def _carrier(kernel: socket.socket, device: int) -> Carrier | None:
    link = _ask(kernel, _GET_LINK, _NEW_LINK, _LINK.pack(0, 0, device, 0, 0))
    told = dict(_attributes(link, _LINK.size))
    if _CARRIER not in told:
        return None
    return Carrier(device, any(told[_CARRIER]), int.from_bytes(told.get(_CHANGES, b""), sys.byteorder))


def _ask(kernel: socket.socket, request: int, answer: int, body: bytes) -> bytes:
    """What the kernel answers, without its header; nothing where it answers otherwise. It answers at once."""
    kernel.send(_HEADER.pack(_HEADER.size + len(body), request, _REQUEST, 0, 0) + body)
    data = kernel.recv(_LARGEST)
    size, kind, _, _, _ = _HEADER.unpack_from(data)
    return data[_HEADER.size : size] if kind == answer else b""


def _attributes(message: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    while start + _ATTRIBUTE.size <= len(message):
        size, kind = _ATTRIBUTE.unpack_from(message, start)
        if size < _ATTRIBUTE.size:
            return
        yield kind, message[start + _ATTRIBUTE.size : start + size]
        start += (size + 3) & ~3

"""NTP: a client's request of version 4 (RFC 5905, section 7.3), which asks for the time and sets nothing."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial

from exposure_scan.conversation import Observation, Reply, Request

from .datagram import inquire
from .words import unique

_SIZE = 48
_CLIENT_V4 = 0x23  # leap 0, version 4, mode 3
_CLIENT, _SERVER = 3, 4  # modes


def ntp(token: str) -> Generator[Request, Reply, Observation]:
    """Ask for the time; the answer must return our transmit timestamp as its originate timestamp."""
    stamp = unique(token, "ntp")
    request = bytes([_CLIENT_V4]) + bytes(_SIZE - 1 - len(stamp)) + stamp
    return (yield from inquire("NTP", request, partial(read, request)))


def read(request: bytes, data: bytes) -> Observation | None:
    """What `data` says as the answer to `request`; None where it is none, or the request no client's."""
    if len(request) < _SIZE or request[0] & 7 != _CLIENT:
        return None
    if len(data) < _SIZE or data[0] & 7 != _SERVER or data[24:32] != request[40:48]:
        return None
    banner = f"NTP version {data[0] >> 3 & 7}, stratum {data[1]}"
    return Observation("ntp", banner, answered=True, valid=True)

"""A witness of the wire that shares nothing with what is tested: a socket of its own, and the kernel's times."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from peers import destination

_STAMP = 35  # asm-generic/socket.h SO_TIMESTAMPNS, also the type of its message
_FORCED = 33  # SO_RCVBUFFORCE
_OUTGOING = 4  # linux/if_packet.h PACKET_OUTGOING: the same packet on its way out


class Sight(NamedTuple):
    """A packet from its IP header on, and when it passed, in seconds since 1970."""

    at: float
    packet: bytes


class Witness:
    """What has passed the loopback device, each packet once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._seen: list[Sight] = []

    def seen(self) -> list[Sight]:
        """Everything up to now."""
        while True:
            try:
                packet, ancillary, _, (_, _, direction, *_) = self._sock.recvmsg(65575, 256)
            except BlockingIOError:
                return self._seen
            if direction != _OUTGOING:
                (stamp,) = [data for _, kind, data in ancillary if kind == _STAMP]
                seconds, nano = struct.unpack("qq", stamp[:16])
                self._seen.append(Sight(seconds + nano / 1e9, packet))

    def to(self, *addresses: str) -> list[Sight]:
        """What went to these addresses."""
        return [sight for sight in self.seen() if destination(sight.packet) in addresses]

    def wait_for(self, *addresses: str, packets: int = 1) -> None:
        """Until so many packets have gone to them."""
        end = time.monotonic() + 60
        while len(self.to(*addresses)) < packets:
            assert time.monotonic() < end, "nothing was sent"
            time.sleep(0.005)


@contextmanager
def watching() -> Iterator[Witness]:
    """A witness of what passes while the block runs."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(3)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _FORCED, 64 << 20)
        sock.setsockopt(socket.SOL_SOCKET, _STAMP, 1)
        witness = Witness(sock)
        while not _stamps(witness):
            pass
        yield witness


def _stamps(witness: Witness) -> bool:
    """Whether the kernel stamps packets when they pass. Until it does, it gives them the time of the reading."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sent = time.time()
        sock.sendto(b"", sock.getsockname())
        time.sleep(0.02)
        (*_, last) = witness.to("127.0.0.1")
        return last.at < sent + 0.015

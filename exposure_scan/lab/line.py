"""A line with delay and loss to the practice site, where the kernel has no netem.

Runs inside the private network. It makes a second private network behind a TUN device, starts the
lab's devices there, and carries every packet between the two with half the round-trip time each
way. What is lost is drawn from a seed, so that a run can be repeated.

    near network (scanner)  wan0 198.18.255.1  <-- this process -->  wan0  far network (devices on lo)
"""

from __future__ import annotations

import array
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import PIPE, Popen

NEAR = "198.18.255.1"
FAR = "198.18.0.0"  # /24: the devices behind the line
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Quality:
    """What the line does to packets."""

    rtt_ms: float = 40.0
    loss: float = 0.0  # share lost, each way, independently
    seed: int = 1


@contextmanager
def line(quality: Quality) -> Iterator[None]:
    """The lab behind a line, while the context lasts; its addresses are those of `far`."""
    words = [str(quality.rtt_ms), str(quality.loss), str(quality.seed)]
    process = Popen([sys.executable, "-m", "exposure_scan.lab.line", *words], stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            raise OSError(f"the line did not come up (exit {process.wait(10)})")
        yield
    finally:
        process.stdin.close()  # both ends end with it
        process.wait(10)
        process.stdout.close()


def far(address: str) -> str:
    """The address behind the line of the device that the practice site has at `address`."""
    return f"198.18.0.{address.rsplit('.', 1)[1]}"


def open_tun() -> int:
    """The descriptor of a new TUN device wan0 in this network namespace, not blocking."""
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", b"wan0", _IFF_TUN | _IFF_NO_PI))
    return handle


def carry(near: int, far_end: int, quality: Quality, until: int) -> None:
    """Carry packets between two TUN descriptors until `until` becomes readable."""
    chance = random.Random(quality.seed)  # noqa: S311 - repeatable, not secret
    half = quality.rtt_ms / 2000
    waiting: list[tuple[float, int, int, bytes]] = []
    number = 0
    poll = select.epoll()
    for handle in (near, far_end, until):
        poll.register(handle, select.EPOLLIN)
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for handle, _ in poll.poll(timeout):
            if handle == until:
                return
            for packet in _read(handle):
                if chance.random() >= quality.loss:
                    number += 1
                    out = far_end if handle == near else near
                    heapq.heappush(waiting, (time.monotonic() + half, number, out, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, out, packet = heapq.heappop(waiting)
            try:
                os.write(out, packet)
            except OSError:  # a full device queue loses packets, as a real line does
                continue


def _read(handle: int) -> Iterator[bytes]:
    for _ in range(_BATCH):
        try:
            yield os.read(handle, 65536)
        except BlockingIOError:
            return


def _pass(sock: socket.socket, handle: int) -> None:
    sock.sendmsg([b"t"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [handle]))])

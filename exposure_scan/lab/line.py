"""A line with delay and loss to the practice site, where the kernel has no netem.

Runs inside the private network. It makes a second private network behind a TUN device, serves the
lab's devices there, and carries every packet between the two with half the round-trip time each
way. What is lost is drawn from a seed, so that a run can be repeated.

    near network (scanner)  wan0 198.18.255.1  <-- this process -->  wan0  far network (devices on lo)
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import heapq
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

from . import network
from .devices import DEVICES, STOP_SECONDS, Device

NEAR = "198.18.255.1"
FAR = "198.18.7.0/24"  # the devices behind the line; what none of them owns is silent
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
_DEVICE = "wan0"
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Quality:
    """What the line does to packets: `loss` is the share lost each way, independently."""

    rtt_ms: float = 40.0
    loss: float = 0.0
    seed: int = 1


@contextmanager
def line(quality: Quality) -> Iterator[None]:
    """The lab behind a line, while the context lasts; its addresses are those of `far`.

    Raises:
        OSError: the line did not come up; it needs /dev/net/tun.
    """
    words = [str(quality.rtt_ms), str(quality.loss), str(quality.seed)]
    command = [sys.executable, "-m", "exposure_scan.lab.line", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise OSError("The line did not come up; it needs the private network and /dev/net/tun.")
            yield
        finally:
            process.stdin.close()  # both ends end with it
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def far(address: str) -> str:
    """The address behind the line of the device that the practice site has at `address` (IPv4)."""
    return f"198.18.7.{address.rsplit('.', 1)[1]}"


# --- the process between the networks -------------------------------------------------------------


def _main(quality: Quality) -> None:
    near = _open_tun()
    network.bring_up(_DEVICE)
    network.add_address(NEAR, _DEVICE)
    network.add_route(ip_network(FAR), _DEVICE)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child == 0:
        ours.close()
        os.close(near)
        _far_end(theirs)
    theirs.close()
    try:
        word, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if not word or not fds:
            raise OSError("the far end did not come up")
        os.write(1, b"ready\n")
        _carry(near, fds[0], quality, until=0)
    finally:
        ours.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _far_end(parent: socket.socket) -> None:
    """The devices in a network of their own, until killed. Never returns."""
    try:
        before = network.own_namespace()
        network.unshare()
        if network.own_namespace() == before:
            raise OSError("the system left the far end in the same network")
        network.bring_up()
        tun = _open_tun()
        network.bring_up(_DEVICE)
        devices = tuple(_moved(device) for device in DEVICES)
        for device in devices:
            for address in device.owned:
                network.add_address(address)
        network.add_route(ip_network(f"{NEAR}/32"), _DEVICE)
        asyncio.run(_serve(devices, parent, tun))
    except OSError as error:
        os.write(2, f"far end of the line: {error}\n".encode())
    finally:
        os._exit(1)


def _moved(device: Device) -> Device:
    return replace(
        device,
        address=far(device.address),
        owned=tuple(far(address) for address in device.owned if ":" not in address),
    )


async def _serve(devices: tuple[Device, ...], parent: socket.socket, tun: int) -> None:
    from .services import serve

    async with serve(devices):
        parent.sendmsg([b"t"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [tun]))])
        await asyncio.Event().wait()


def _open_tun() -> int:
    """The descriptor of a new TUN device in this network namespace, not blocking."""
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    # A device that says hello in IPv6 would only disturb the counts.
    Path(f"/proc/sys/net/ipv6/conf/{_DEVICE}/disable_ipv6").write_text("1", encoding="ascii")
    return handle


def _carry(near: int, far_end: int, quality: Quality, *, until: int) -> None:
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


if __name__ == "__main__":
    _main(Quality(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))

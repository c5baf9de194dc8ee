"""A line with delay and loss to the practice site, where the kernel has no netem.

Runs inside the private network. It makes a second private network behind a TUN device, serves the
lab's devices there, and carries every packet between the two with half the round-trip time each
way. What is lost is drawn from a seed, so that a run can be repeated. Each address of the far network
may have faults of its own on the way to it (see `faults`), and a device of one's choice.

    near network (scanner)  wan0 198.18.255.1  <-- this process -->  wan0  far network (devices on lo)
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import heapq
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from types import MappingProxyType

from . import faults, network
from .devices import DEVICES, STOP_SECONDS, Device, Service
from .faults import ROUTER, Fault, Passing, Way

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


_SERVED: Mapping[str, tuple[Service, ...]] = MappingProxyType(
    {device.name: device.services for device in DEVICES if device.owned}
)
_PAGE = (  # synthetic
    b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n"
    b"<html><head><title>Practice page of exposure-scan (synthetic)</title></head></html>\n"
)
NOBODY = "nobody"
# What may stand behind the line, by name: the practice site's devices, and those that show one service or none.
STANDING: Mapping[str, tuple[Service, ...] | None] = MappingProxyType(
    {
        **_SERVED,
        "sip-only": (Service("udp", 5060, "sip"),),
        "admin-only": tuple(service for service in _SERVED["exposed-server"] if service.port == 8080),
        "web-only": (Service("tls", 443, "http", _PAGE),),
        "refusing": (),
        NOBODY: None,
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """One address behind the line: who stands there (of `STANDING`), and the faults on the way, nearest first."""

    number: int  # the last part of the address
    device: str
    faults: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Where it is, as the scanner sees it."""
        return str(ip_network(FAR)[self.number])

    def check(self) -> None:
        """Raise what is wrong with it.

        Raises:
            ValueError: there is no such device, fault or address.
        """
        if self.device not in STANDING:
            raise ValueError(f"there is no device {self.device!r}; there are: {', '.join(STANDING)}")
        if not 1 <= self.number <= 254:
            raise ValueError(f"an address of {FAR} ends in 1 to 254, not in {self.number}")
        self.boxes(0)

    def boxes(self, seed: int) -> tuple[Fault, ...]:
        """The faults, fresh. Each address draws its own lots."""
        return tuple(faults.read(text, f"{seed} {self.number}") for text in self.faults)

    def __str__(self) -> str:
        return " ".join((str(self.number), self.device, *self.faults))

    @classmethod
    def parse(cls, text: str) -> Place:
        """The place of a text such as ``7 sip-only router loss=0.2``.

        Raises:
            ValueError: it is none.
        """
        number, device, *more = text.split()
        place = cls(int(number), device, tuple(more))
        place.check()
        return place


def available() -> str | None:
    """Why no line can be had here, as a sentence; None where it can."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"no line with faults here: /dev/net/tun cannot be opened ({error.strerror})"
    return None


@contextmanager
def line(quality: Quality, places: Sequence[Place] = ()) -> Iterator[None]:
    """The lab behind a line, while the context lasts.

    Without `places` it is the practice site, at the addresses of `far`; else what they name, and
    nothing but them.

    Raises:
        OSError: the line did not come up; it needs /dev/net/tun.
        ValueError: a place names what there is not.
    """
    for place in places:
        place.check()
    words = [str(quality.rtt_ms), str(quality.loss), str(quality.seed), *map(str, places)]
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


def _main(quality: Quality, places: Sequence[Place]) -> None:
    near = _open_tun()
    network.bring_up(_DEVICE)
    network.add_address(NEAR, _DEVICE)
    for way in (FAR, f"{ROUTER}/32", f"{faults.ELSEWHERE}/32"):  # who may speak from there, may be spoken to
        network.add_route(ip_network(way), _DEVICE)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child == 0:
        ours.close()
        os.close(near)
        _far_end(theirs, [_stood(place) for place in places] if places else [_moved(device) for device in DEVICES])
    theirs.close()
    try:
        word, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if not word or not fds:
            raise OSError("the far end did not come up")
        os.write(1, b"ready\n")
        _carry(near, fds[0], quality, {place.address: place.boxes(quality.seed) for place in places}, until=0)
    finally:
        ours.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _far_end(parent: socket.socket, devices: Sequence[Device]) -> None:
    """The devices in a network of their own, until killed. Never returns."""
    try:
        network.unshare()
        network.bring_up()
        tun = _open_tun()
        network.bring_up(_DEVICE)
        for device in devices:
            for address in device.owned:
                network.add_address(address)
        network.add_route(ip_network(f"{NEAR}/32"), _DEVICE)
        # One limit for the whole kernel would let the devices' refusals depend on each other.
        Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text("0", encoding="ascii")
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


def _stood(place: Place) -> Device:
    services = STANDING[place.device]
    owned = () if services is None else (place.address,)
    return Device(f"{place.device}-{place.number}", place.address, owned, services or ())


async def _serve(devices: Sequence[Device], parent: socket.socket, tun: int) -> None:
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


def _carry(near: int, far_end: int, quality: Quality, boxes: Mapping[str, Sequence[Fault]], *, until: int) -> None:
    """Carry packets between two TUN descriptors until `until` becomes readable.

    The boxes of an address stand at the far end, so whatever turns back there has come half the way.
    """
    whole = faults.read(f"loss={quality.loss}", quality.seed)
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
                now = time.monotonic()
                for seconds, way, made in _beyond(packet, Way.OUT if handle == near else Way.BACK, whole, boxes, now):
                    number += 1
                    # out: half the way. Back: the other half, and the first as well if it turned round.
                    halves = 2 if way is Way.BACK and handle == near else 1
                    out = far_end if way is Way.OUT else near
                    heapq.heappush(waiting, (now + seconds + halves * half, number, out, made))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, out, packet = heapq.heappop(waiting)
            with suppress(OSError):  # a full device queue loses packets, as a real line does
                os.write(out, packet)


def _beyond(packet: bytes, way: Way, whole: Fault, boxes: Mapping[str, Sequence[Fault]], now: float) -> list[Passing]:
    """What comes of a packet: the line's own loss, then the faults of the address behind it."""
    at = 16 if way is Way.OUT else 12  # the destination or the source of an IPv4 header
    address = str(IPv4Address(packet[at : at + 4])) if len(packet) >= 20 else ""
    return faults.through((whole, *boxes.get(address, ())), way, packet, now)


def _read(handle: int) -> Iterator[bytes]:
    for _ in range(_BATCH):
        try:
            yield os.read(handle, 65536)
        except BlockingIOError:
            return


if __name__ == "__main__":
    _main(
        Quality(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])), [Place.parse(word) for word in sys.argv[4:]]
    )

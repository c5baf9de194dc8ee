"""The closed network of the benchmark: two private networks, a line of our own between them, nothing beyond.

    near network (scanner and peers)  wan0 198.18.255.1  <-- line -->  198.18.255.2 wan0  far network (sites)

Every site is an address of its own. A fifth is open: one process in the far network serves all of them, in the words
of `exposure_scan.lab`. At the rest nobody answers: the line drops what goes there. The line is `line.c`, compiled for
the run, or a slow one in Python where there is no C compiler.
"""

from __future__ import annotations

import array
import fcntl
import heapq
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path
from random import Random

from exposure_scan import lab
from exposure_scan.lab import network
from exposure_scan.lab.devices import DEVICES, Service

NEAR, GATEWAY = "198.18.255.1", "198.18.255.2"
NEAR_MAC, GATEWAY_MAC = "02-00-00-00-00-01", "02-00-00-00-00-02"
SITES = IPv4Network("198.18.0.0/17")
SILENT, OPEN = IPv4Network("198.18.0.0/18"), IPv4Network("198.18.64.0/18")  # the halves of it
MOST_SITES = 10_000
OPEN_EVERY = 5  # every fifth site is open
_DEVICE = "wan0"
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
_SIOCSIFHWADDR, _SIOCSIFTXQLEN, _ARPHRD_ETHER = 0x8924, 0x8943, 1  # linux/sockios.h, linux/if_arp.h
_SIOCETHTOOL, _ETHTOOL_STSO, _ETHTOOL_SGSO, _ETHTOOL_SGRO = 0x8946, 0x1F, 0x24, 0x2C  # linux/ethtool.h
_QUEUE = 20_000  # frames that a device holds while the line is not looking

_WORDS = {service.port: service.words for service in DEVICES[0].services}
SERVED = (
    Service("udp", 5060, "sip"),
    Service("tcp", 5060, "sip"),
    Service("tls", 5061, "sip"),
    Service("tcp", 25, "smtp", _WORDS[25], starttls=True),
    Service("tcp", 143, "imap", _WORDS[143], starttls=True),
    Service("tcp", 110, "pop3", _WORDS[110]),
    Service("tcp", 80, "http", _WORDS[80]),
    Service("tcp", 8080, "http", _WORDS[8080]),
)
KEYS = tuple(f"{'udp' if one.transport == 'udp' else 'tcp'}/{one.port}" for one in SERVED)
Found = set[tuple[str, str]]  # address and port: ("198.18.64.1", "tcp/25")


def addresses(number: int) -> list[str]:
    """So many sites, the open ones among the silent ones in an order that is the same in each run."""
    found = [str((OPEN if one % OPEN_EVERY == 0 else SILENT)[one // 5 + 1 + one]) for one in range(number)]
    Random(1).shuffle(found)
    return found


def truth(sites: Sequence[str]) -> Found:
    """What is open at them."""
    return {(site, key) for site in sites if IPv4Address(site) in OPEN for key in KEYS}


@dataclass(frozen=True, slots=True)
class Counts:
    """What the line has carried since it was told its quality: packets that came in, and what it lost itself."""

    out: int
    back: int
    full: int  # frames that a queue had no room for: a fault of this line, or of who floods it


class Line:
    """The line while it is up."""

    def __init__(self, process: subprocess.Popen[bytes], kind: str) -> None:
        self._process = process
        self.kind = kind

    def quality(self, rtt_ms: float, loss: float, seed: int = 1) -> None:
        """From now on so long there and back, and such a share lost each way; the counts begin anew."""
        self._ask(f"quality {rtt_ms} {loss} {seed}")

    def counts(self) -> Counts:
        """What was carried since."""
        told = self._ask("counts")
        return Counts(told["out"]["packets"], told["back"]["packets"], told["out"]["full"] + told["back"]["full"])

    def _ask(self, text: str) -> dict[str, dict[str, int]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, dict[str, int]] = json.loads(self._process.stdout.readline())
        return answer


def enter() -> None:
    """Make sure that this process is in a private network: start it anew in one if it is not.

    Raises:
        SystemExit: with the exit code of the run within.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode
    if not lab.inside():
        try:
            raise SystemExit(lab.enter_and_run([sys.executable, *sys.argv]))
        except lab.NamespaceRefused as refused:
            raise SystemExit(str(refused)) from None


def refuse_a_way_out() -> None:
    """End here where packets could leave: at a default route.

    Raises:
        SystemExit: there is one.
    """
    ipv4 = Path("/proc/net/route").read_text()
    ipv6 = Path("/proc/net/ipv6_route")
    if network.default_routes(ipv4, ipv6.read_text() if ipv6.exists() else ""):
        raise SystemExit("There is a default route here; run this by `make bench`, in a network that leads nowhere.")


@contextmanager
def closed(rtt_ms: float = 40.0, loss: float = 0.0) -> Iterator[Line]:
    """The sites behind the line, while the context lasts. To be called once in a private network.

    Raises:
        OSError: the system gives no TAP device or no second network.
    """
    refuse_a_way_out()
    near = _tap(NEAR_MAC)
    network.add_address(NEAR, _DEVICE)
    _neighbour(GATEWAY, GATEWAY_MAC)
    network.add_route(ip_network(f"{GATEWAY}/32"), _DEVICE)
    _route(SITES, _DEVICE, gateway=GATEWAY)
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
            raise OSError("The far network of the benchmark did not come up.")
        with tempfile.TemporaryDirectory() as folder:
            command, kind = _carrier(Path(folder), near, fds[0])
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(near, fds[0])
            ) as process:
                line = Line(process, kind)
                line.quality(rtt_ms, loss)
                yield line
                assert process.stdin is not None
                process.stdin.close()
    finally:
        ours.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(near)


def _carrier(folder: Path, near: int, far: int) -> tuple[list[str], str]:
    """The command of the line, and what it is."""
    words = [str(near), str(far), str(SILENT.network_address), str(SILENT.prefixlen)]
    compiler = shutil.which("cc")
    if compiler is None:
        return [sys.executable, __file__, *words], "a line in Python (no cc here: fast peers outrun it)"
    program = folder / "line"
    subprocess.run([compiler, "-O2", "-o", str(program), str(Path(__file__).with_name("line.c"))], check=True)
    return [str(program), *words], "a line in C"


# --- the devices and ways -------------------------------------------------------------------------


def _tap(mac: str) -> int:
    """The descriptor of a new TAP device in this network, not blocking; the device is up."""
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _IFF_TAP | _IFF_NO_PI))
    Path(f"/proc/sys/net/ipv6/conf/{_DEVICE}/disable_ipv6").write_text("1")
    for scope in ("all", _DEVICE):  # sites answer from addresses that are no device's own
        Path(f"/proc/sys/net/ipv4/conf/{scope}/rp_filter").write_text("0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        hardware = struct.pack("16sH6s16x", _DEVICE.encode(), _ARPHRD_ETHER, bytes.fromhex(mac.replace("-", "")))
        fcntl.ioctl(control, _SIOCSIFHWADDR, hardware)
        fcntl.ioctl(control, _SIOCSIFTXQLEN, struct.pack("16si20x", _DEVICE.encode(), _QUEUE))
        # With these on, libpcap reckons with frames of 64 KiB, keeps room for 32 of them, and masscan hears little.
        for off in (_ETHTOOL_STSO, _ETHTOOL_SGSO, _ETHTOOL_SGRO):
            value = array.array("I", [off, 0])
            fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("16sP16x", _DEVICE.encode(), value.buffer_info()[0]))
    network.bring_up(_DEVICE)
    return handle


def _route(to: IPv4Network, device: str, *, gateway: str | None = None) -> None:
    """Lead a network to a gateway, or, without one, make all its addresses this machine's own (rtnetlink(7))."""
    local = gateway is None
    table, scope, kind = (255, 254, 2) if local else (254, 0, 1)  # local, host, RTN_LOCAL; main, universe, RTN_UNICAST
    body = struct.pack("BBBBBBBBI", socket.AF_INET, to.prefixlen, 0, 0, table, 3, scope, kind, 0)
    values = [(1, to.network_address.packed), (4, struct.pack("i", socket.if_nametoindex(device)))]  # RTA_DST, RTA_OIF
    if gateway is not None:
        values.append((5, IPv4Address(gateway).packed))  # RTA_GATEWAY
    _netlink(24, body, values)  # RTM_NEWROUTE


def _neighbour(address: str, mac: str) -> None:
    """Know for ever who it is on the line: nobody has to ask, and no packet waits for the answer."""
    body = struct.pack("BxxxiHBB", socket.AF_INET, socket.if_nametoindex(_DEVICE), 0x80, 0, 1)  # NUD_PERMANENT
    values = [(1, IPv4Address(address).packed), (2, bytes.fromhex(mac.replace("-", "")))]  # NDA_DST, NDA_LLADDR
    _netlink(28, body, values)  # RTM_NEWNEIGH


def _netlink(kind: int, body: bytes, values: Sequence[tuple[int, bytes]]) -> None:
    for number, value in values:
        body += struct.pack("HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        # NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE
        kernel.send(struct.pack("IHHII", 16 + len(body), kind, 0x1 | 0x4 | 0x400, 1, 0) + body)
        (code,) = struct.unpack_from("i", kernel.recv(4096), 16)
    if code:
        raise OSError(-code, f"the kernel refused a way in the closed network: {os.strerror(-code)}")


def _far_end(parent: socket.socket) -> None:
    """The sites in a network of their own, until killed. Never returns."""
    try:
        network.unshare()
        network.bring_up()
        tap = _tap(GATEWAY_MAC)
        network.add_address(GATEWAY, _DEVICE)
        _neighbour(NEAR, NEAR_MAC)
        network.add_route(ip_network(f"{NEAR}/32"), _DEVICE)
        _route(OPEN, "lo")
        # The sites are many machines: no limit of one kernel may make their refusals depend on each other.
        for name, value in (("icmp_ratelimit", "0"), ("icmp_ratemask", "0"), ("tcp_max_syn_backlog", "65535")):
            Path(f"/proc/sys/net/ipv4/{name}").write_text(value)
        Path("/proc/sys/net/core/somaxconn").write_text("65535")
        from far import serve

        serve(SERVED, lambda: parent.sendmsg([b"t"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [tap]))]))
    except OSError as error:
        os.write(2, f"far end of the line: {error}\n".encode())
    finally:
        os._exit(1)


# --- the line where there is no compiler ----------------------------------------------------------


def _carry(near: int, far: int, silent: IPv4Network) -> None:
    """What line.c does, slower."""
    half, loss, lots = 0.02, 0.0, Random(1)
    fresh = {"packets": 0, "full": 0}
    counts = {near: dict(fresh), far: dict(fresh)}
    waiting: list[tuple[float, int, int, bytes]] = []
    number = 0
    first, last = silent.network_address.packed, silent.broadcast_address.packed
    poll = select.poll()
    for handle in (near, far, 0):
        poll.register(handle, select.POLLIN)
    while True:
        wait = max(0.0, waiting[0][0] - time.monotonic()) * 1000 if waiting else None
        for handle, _ in poll.poll(wait):
            if handle == 0:
                words = os.read(0, 128).split()
                if not words:
                    return
                if words[0] == b"quality":
                    half, loss, lots = float(words[1]) / 2000, float(words[2]), Random(int(words[3]))
                    counts = {near: dict(fresh), far: dict(fresh)}
                os.write(1, json.dumps({"out": counts[near], "back": counts[far]}).encode() + b"\n")
                continue
            for frame in _frames(handle):
                if frame[12:14] == b"\x08\x00":
                    counts[handle]["packets"] += 1
                    if (handle == near and first <= frame[30:34] <= last) or lots.random() < loss:
                        continue
                number += 1
                out = far if handle == near else near
                heapq.heappush(waiting, (time.monotonic() + half, number, out, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, out, frame = heapq.heappop(waiting)
            try:
                os.write(out, frame)
            except OSError:
                counts[near if out == far else far]["full"] += 1


def _frames(handle: int) -> Iterator[bytes]:
    for _ in range(64):
        try:
            yield os.read(handle, 2048)
        except BlockingIOError:
            return


if __name__ == "__main__":
    _carry(int(sys.argv[1]), int(sys.argv[2]), IPv4Network(f"{sys.argv[3]}/{sys.argv[4]}"))

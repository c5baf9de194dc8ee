"""The kernel's side of the private network, without iproute2: namespaces, loopback, addresses, routes.

The lab must come up on a machine that has nothing but Python, so the few calls that `unshare` and
`ip` would make are made here. Each function acts on the network namespace of the calling process.
Sources: unshare(2), netdevice(7), rtnetlink's ioctl ancestors in linux/sockios.h, linux/route.h and
linux/ipv6_route.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import time
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCADDRT, _SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x890B, 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFNETMASK = 0x8916, 0x891C
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_RTF_UP, _RTF_REJECT = 0x1, 0x200
_IFA_F_TENTATIVE = 0x40  # linux/if_addr.h
_USABLE = 10.0  # seconds
_LABEL = 15  # bytes of an interface name


class _Route4(ctypes.Structure):
    """``struct rtentry`` of linux/route.h."""

    _fields_ = (
        ("pad1", ctypes.c_ulong),
        ("destination", ctypes.c_ubyte * 16),
        ("gateway", ctypes.c_ubyte * 16),
        ("mask", ctypes.c_ubyte * 16),
        ("flags", ctypes.c_ushort),
        ("pad2", ctypes.c_short),
        ("pad3", ctypes.c_ulong),
        ("pad4", ctypes.c_void_p),
        ("metric", ctypes.c_short),
        ("device", ctypes.c_char_p),
        ("mtu", ctypes.c_ulong),
        ("window", ctypes.c_ulong),
        ("initial_rtt", ctypes.c_ushort),
    )


def unshare() -> None:
    """Leave the present network for a new, empty one; the caller is root in it.

    Root makes a network namespace alone, and where that is refused, or for any other user, a user
    namespace with it. The process must have one thread.

    Raises:
        OSError: the system refuses.
    """
    before = own_namespace()
    _leave()
    if own_namespace() == before:
        raise OSError("the system left this process in the same network")


def _leave() -> None:
    if os.geteuid() == 0:
        try:
            _unshare(_CLONE_NEWNET)
        except PermissionError:  # root of a container without CAP_SYS_ADMIN
            pass
        else:
            return
    user, group = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"0 {user} 1")
    _write("/proc/self/gid_map", f"0 {group} 1")


def bring_up(device: str = "lo") -> None:
    """Set the device up; a fresh loopback then owns 127.0.0.1 and ::1.

    Raises:
        OSError: the kernel refuses.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, _ifreq(device, struct.pack("H14x", _flags(device) | _IFF_UP)))


def add_address(address: str, device: str = "lo") -> None:
    """Give the device one more address, alone in its network (/32 or /128).

    Raises:
        OSError: the kernel refuses, or has no IPv6.
    """
    ip = ip_address(address)
    if ip.version == 6:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
            request = ip.packed + struct.pack("Ii", 128, socket.if_nametoindex(device))
            fcntl.ioctl(control, _SIOCSIFADDR, request)
        if device == "lo":
            _wait_until_usable(IPv6Address(ip))
        return
    label = f"{device}:{int(ip):x}"  # an alias needs a name of its own, or it takes the place of the last one
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFADDR, _ifreq(label, _sockaddr(ip.packed)))
        fcntl.ioctl(control, _SIOCSIFNETMASK, _ifreq(label, _sockaddr(b"\xff\xff\xff\xff")))


def _wait_until_usable(address: IPv6Address) -> None:
    """Wait until the kernel has done with the address what RFC 4862 asks for: nobody can bind to it before."""
    name = address.packed.hex()
    until = time.monotonic() + _USABLE
    while time.monotonic() < until:
        rows = (row.split() for row in Path("/proc/net/if_inet6").read_text().splitlines())
        if any(row[0] == name and not int(row[4], 16) & _IFA_F_TENTATIVE for row in rows):
            return
        time.sleep(0.005)
    raise OSError(errno.ETIMEDOUT, f"{address} did not become usable")


def add_route(network: IPv4Network | IPv6Network, device: str = "lo") -> None:
    """Lead a network into the device.

    On loopback, what nobody owns there is dead silent; in IPv6 the kernel says net-unreachable instead.

    Raises:
        OSError: the kernel refuses, or has no IPv6.
    """
    if isinstance(network, IPv6Network):
        message = struct.pack(
            "16s16s16sIHHILIi",
            network.network_address.packed,
            b"",
            b"",
            0,
            network.prefixlen,
            0,
            1024,  # the usual metric
            0,
            _RTF_UP,
            socket.if_nametoindex(device),
        )
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, _SIOCADDRT, message)
        return
    route = _Route4(flags=_RTF_UP, device=device.encode())
    for field, packed in (
        ("destination", network.network_address.packed),
        ("gateway", bytes(4)),
        ("mask", network.netmask.packed),
    ):
        setattr(route, field, (ctypes.c_ubyte * 16)(*_sockaddr(packed)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        if _libc().ioctl(control.fileno(), _SIOCADDRT, ctypes.byref(route)):  # holds a pointer: not for fcntl
            raise _last_error("the route was refused")


def own_namespace() -> str:
    """The name of the network namespace that this process is in: ``net:[4026531840]``."""
    return str(Path("/proc/self/ns/net").readlink())


def leading_out() -> list[str]:
    """What would carry packets away from this namespace; empty in a private network.

    Raises:
        OSError: the kernel does not say (no /proc), so nothing is known.
    """
    ways = default_routes(_read("/proc/net/route"), _read("/proc/net/ipv6_route", missing=""))
    for _, name in socket.if_nameindex():
        flags = _flags(name)
        if flags & _IFF_UP and not flags & _IFF_LOOPBACK:
            ways.append(f"interface {name}")
    return ways


def default_routes(ipv4: str, ipv6: str) -> list[str]:
    """The default routes in the text of /proc/net/route and /proc/net/ipv6_route, one phrase each.

    A reject entry leads nowhere and does not count; the kernel keeps one for IPv6 in every namespace.
    """
    rows4 = (line.split() for line in ipv4.splitlines()[1:])
    rows6 = (line.split() for line in ipv6.splitlines())
    return [
        *(f"IPv4 default route through {row[0]}" for row in rows4 if _leads_out(row[1], row[7], row[3])),
        *(f"IPv6 default route through {row[9]}" for row in rows6 if _leads_out(row[0], row[1], row[8])),
    ]


def _leads_out(destination: str, mask: str, flags: str) -> bool:
    return int(destination, 16) == 0 and int(mask, 16) == 0 and not int(flags, 16) & _RTF_REJECT


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _last_error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def _unshare(flags: int) -> None:
    if _libc().unshare(flags):
        raise _last_error("a new namespace was refused")


def _ifreq(name: str, payload: bytes) -> bytes:
    """``struct ifreq``, with room for its largest member."""
    if len(name) > _LABEL:
        raise ValueError(f"interface name {name!r} is too long")
    return struct.pack("16s24s", name.encode(), payload)


def _sockaddr(packed: bytes) -> bytes:
    return struct.pack("HH4s8x", socket.AF_INET, 0, packed)


def _flags(device: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, _ifreq(device, b""))
    flags: int = struct.unpack_from("H", answer, 16)[0]
    return flags


def _read(path: str, missing: str | None = None) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except FileNotFoundError:
        if missing is None:
            raise
        return missing


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)

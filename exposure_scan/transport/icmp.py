"""ICMP as the kernel tells it: errors about our packets, with the router that sent them.

A refused connection looks the same to a program whether the host's TCP refused it or a router on
the way said so. The error queue of the socket (Linux, ip(7) IP_RECVERR) keeps the difference.
"""

from __future__ import annotations

import re
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType

from exposure_scan.model import Address

_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h
_ICMP_FILTER = 1  # linux/icmp.h, level SOL_RAW
_ICMP6_FILTER = 1  # linux/icmpv6.h
_SOL_RAW = 255
_MSG_ERRQUEUE = 0x2000
_MOST = 16  # errors read at once
_QUOTED = 2048  # bytes of a datagram's content that are looked at where an error quotes it
_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3  # linux/errqueue.h
_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err

PORT_UNREACHABLE = "icmp-port-unreachable"

# RFC 792, RFC 1122 (3.2.2.1), RFC 1812 (5.2.7.1)
_V4_UNREACHABLE = (
    "icmp-net-unreachable",
    "icmp-host-unreachable",
    "icmp-proto-unreachable",
    PORT_UNREACHABLE,
    "icmp-fragmentation-needed",
    "icmp-source-route-failed",
    "icmp-net-unknown",
    "icmp-host-unknown",
    "icmp-host-isolated",
    "icmp-net-prohibited",
    "icmp-host-prohibited",
    "icmp-net-unreachable",  # for the type of service
    "icmp-host-unreachable",  # for the type of service
    "icmp-admin-prohibited",
    "icmp-admin-prohibited",  # host precedence violation
    "icmp-admin-prohibited",  # precedence cutoff
)
# RFC 4443, section 3.1
_V6_UNREACHABLE = (
    "icmp-net-unreachable",
    "icmp-admin-prohibited",
    "icmp-beyond-scope",
    "icmp-host-unreachable",
    PORT_UNREACHABLE,
    "icmp-admin-prohibited",  # source address failed ingress/egress policy
    "icmp-net-prohibited",  # reject route
)
_V4_OTHER = MappingProxyType({11: "icmp-time-exceeded", 12: "icmp-parameter-problem"})
_V6_OTHER = MappingProxyType({2: "icmp-packet-too-big", 3: "icmp-time-exceeded", 4: "icmp-parameter-problem"})
_DETAIL = re.compile(r"type=([0-9]{1,3}) code=([0-9]{1,3}) from=([0-9a-fA-F:.]{2,45})")
_ABOUT_SIZE = frozenset({"icmp-fragmentation-needed", "icmp-packet-too-big"})


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error about a packet of ours: which, and which address sent it."""

    type: int
    code: int
    offender: Address

    @property
    def reason(self) -> str:
        """The reason in words, as a port's reason has it."""
        table, other = (_V4_UNREACHABLE, _V4_OTHER) if self.offender.version == 4 else (_V6_UNREACHABLE, _V6_OTHER)
        if self.type == (3 if self.offender.version == 4 else 1) and self.code < len(table):
            return table[self.code]
        return other.get(self.type, f"icmp-type-{self.type}-code-{self.code}")

    @property
    def refuses(self) -> bool:
        """Whether it says that the packet did not arrive; a word about its size does not."""
        return self.reason not in _ABOUT_SIZE

    @property
    def detail(self) -> str:
        """``type=3 code=13 from=198.51.100.1``: the form in which `icmp` events keep it."""
        return f"type={self.type} code={self.code} from={self.offender}"


def read_icmp(detail: str) -> IcmpError:
    """The error that `IcmpError.detail` wrote.

    Raises:
        ValueError: it is no such text.
    """
    match = _DETAIL.fullmatch(detail)
    if match is None:
        raise ValueError(f"{detail!r} tells of no ICMP error")
    return IcmpError(int(match[1]), int(match[2]), ip_address(match[3]))


def listen_for_errors(sock: socket.socket, *, on: bool = True) -> None:
    """Have the kernel queue the ICMP errors that concern the socket (or no longer)."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, on)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, on)


def only_echo_replies(sock: socket.socket) -> None:
    """Let a raw ICMP socket receive echo replies and nothing else."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << 0) & 0xFFFFFFFF))
    else:
        words = [0xFFFFFFFF] * 8  # a set bit blocks the type
        words[129 // 32] &= ~(1 << 129 % 32)
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))


def read_errors(sock: socket.socket) -> list[IcmpError]:
    """Take what the socket's error queue holds, ICMP errors only, oldest first."""
    found = []
    for _ in range(_MOST):
        try:
            _, ancillary, _, _ = sock.recvmsg(1, 512, _MSG_ERRQUEUE)
        except OSError:  # empty, or the pending error is told first; either way no entry was read
            break
        for level, kind, data in ancillary:
            if (level, kind) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
                error = _parse(data)
                if error is not None:
                    found.append(error)
    return found


def read_addressed_errors(sock: socket.socket, most: int = 256) -> list[tuple[IcmpError, tuple[str, int], bytes]]:
    """As `read_errors`, for sockets that are not connected.

    Each comes with the address and port that the packet had gone to, and with what of its content was quoted.
    """
    found = []
    for _ in range(most):
        try:
            quoted, ancillary, _, peer = sock.recvmsg(_QUOTED, 512, _MSG_ERRQUEUE)
        except OSError:
            break
        for level, kind, data in ancillary:
            if (level, kind) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
                error = _parse(data)
                if error is not None and peer:
                    found.append((error, (str(peer[0]).split("%")[0], int(peer[1])), quoted))
    return found


def _parse(data: bytes) -> IcmpError | None:
    """One sock_extended_err with the offender's sockaddr behind it; None if no ICMP is its origin."""
    if len(data) < _EXTENDED_ERROR.size + 8:
        return None
    _, origin, type_, code, _, _, _ = _EXTENDED_ERROR.unpack_from(data)
    sockaddr = data[_EXTENDED_ERROR.size :]
    if origin == _ORIGIN_ICMP:
        return IcmpError(type_, code, IPv4Address(sockaddr[4:8]))
    if origin == _ORIGIN_ICMP6 and len(sockaddr) >= 24:
        return IcmpError(type_, code, IPv6Address(sockaddr[8:24]))
    return None

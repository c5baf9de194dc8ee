"""Hosts made of whole packets, which forge: errors, resets, replies and floods that no socket would send.

Each stands at an address that nobody owns, refuses what it does not serve, and may serve one honest SIP
service on tcp/5060 and udp/5060 beside its forgeries. All of it is synthetic. What they forge they could
forge from anywhere: it is told from the truth by a port, a sequence number or a word that only the scanner
and the asked host know (RFC 5927, RFC 5961), so none of it may change what is found.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

from . import answers, packets
from .packets import ACK, FIN, RST, SYN, Packet, Segment

SPACE = "198.18.68.0"  # /24: where they stand
ELSEWHERE = "198.18.69.8"  # where forged packets come from, or would lead to; nobody is there
ROUTER = "198.18.69.1"
FLOOD = 10_000  # datagrams
_SIP = 5060
_REPEATED = 100
_HUGE = 60_000  # bytes of a body, in one datagram
_SLICE = 250  # packets sent in one turn
_LATE = 0.4  # seconds that the framed host takes to answer: what is forged comes first
_UNREACHABLE, _REDIRECT, _QUENCH = packets.UNREACHABLE, 5, 4  # ICMP types
_FRAGMENTATION, _PROHIBITED, _PORT = 4, packets.ADMIN_PROHIBITED, packets.PORT_UNREACHABLE  # codes
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h


@dataclass(slots=True)
class _Flow:
    """A connection to the honest service: what was heard of it in order, and the number of our first byte."""

    next: int
    first: int
    said: bytes = b""

    def take(self, segment: Segment) -> None:
        """The next piece; what comes again, or too early, is acknowledged and no more."""
        if segment.seq == self.next:
            self.said += segment.data
            self.next += len(segment.data) + bool(segment.flags & FIN)


@dataclass(slots=True)
class Host:
    """One of them: what it forges, and what it has seen."""

    address: str
    forges: Forger
    honest: bool
    heard: dict[int, _Flow] = field(default_factory=dict)  # of TCP to SIP's port, by the scanner's port
    floods: int = 0

    def answers(self, raw: bytes) -> list[bytes]:
        """Everything that a packet to this host brings about, in order."""
        packet = packets.read(raw)
        return [] if packet is None else self.forges(self, packet, raw, self._honestly(packet, raw))

    def _honestly(self, packet: Packet, raw: bytes) -> list[bytes]:
        segment = packet.segment
        if segment is not None:
            return self._over_tcp(packet, segment)
        if packet.protocol != packets.UDP or packet.ports is None:
            return []  # no ping
        if self.honest and packet.ports[1] == _SIP:
            return [_answered(packet)]
        return [packets.icmp_error(raw, _UNREACHABLE, _PORT, packet.destination)]

    def _over_tcp(self, packet: Packet, segment: Segment) -> list[bytes]:
        if segment.flags & RST:
            return []
        back = Segment(segment.destination, segment.source, segment.ack, segment.seq + 1, ACK, 65535)
        if not (self.honest and segment.destination == _SIP):
            return [_from(packet, replace(back, flags=RST | ACK, window=0))]
        if segment.flags & SYN:
            first = zlib.crc32(f"{segment.source} {segment.seq}".encode())
            self.heard[segment.source] = _Flow((segment.seq + 1) % 2**32, first + 1)
            return [_from(packet, replace(back, seq=first, flags=SYN | ACK))]
        flow = self.heard.get(segment.source)
        if flow is None or not (segment.data or segment.flags & FIN):
            return []
        flow.take(segment)
        back = replace(back, ack=flow.next)
        if segment.flags & FIN:
            return [_from(packet, replace(back, flags=FIN | ACK))]
        if b"\r\n\r\n" not in flow.said:
            return [_from(packet, back)]
        ends = (packet.source, segment.source), (packet.destination, _SIP)
        words = answers.sip(flow.said, peer=ends[0], own=ends[1], transport="tcp")
        return [_from(packet, replace(back, seq=flow.first, data=words))]


Forger: TypeAlias = Callable[[Host, Packet, bytes, list[bytes]], list[bytes]]


def _from(packet: Packet, segment: Segment) -> bytes:
    """A segment back to where the packet came from."""
    return packets.tcp(segment, packet.destination, packet.source)


def _answered(packet: Packet) -> bytes:
    """The honest answer to SIP in a datagram."""
    assert packet.ports is not None
    near, far = packet.ports
    words = answers.sip(packet.payload, peer=(packet.source, near), own=(packet.destination, far), transport="udp")
    return packets.udp(far, near, words, packet.destination, packet.source)


def _error(
    quoted: bytes, sender: str, to: str, code: int = _PORT, kind: int = _UNREACHABLE, word: bytes = b""
) -> bytes:
    """An ICMP error with whatever quote; `word` are the four bytes before it."""
    head = struct.pack("!BBH4s", kind, code, 0, word)
    return packets.write(Packet(sender, to, packets.ICMP, head + quoted))


def _asks(packet: Packet) -> bool:
    """A question and no part of a conversation: a SYN or a datagram."""
    segment = packet.segment
    return packet.protocol == packets.UDP or (segment is not None and bool(segment.flags & SYN))


# --- ICMP errors -----------------------------------------------------------------------------------


def _errors(quotes: Callable[[Packet, bytes], Sequence[bytes]], code: int = _PORT, kind: int = _UNREACHABLE) -> Forger:
    """Errors from the host itself and from a router, each before the honest answer."""

    def forge(_: Host, packet: Packet, raw: bytes, honest: list[bytes]) -> list[bytes]:
        quoted = quotes(packet, raw) if _asks(packet) else ()
        word = socket.inet_aton(ELSEWHERE) if kind == _REDIRECT else struct.pack("!HH", 0, 68)  # gateway, or MTU
        senders = (packet.destination, ROUTER)
        return [*(_error(one, who, packet.source, code, kind, word) for one in quoted for who in senders), *honest]

    return forge


def _cut(raw: bytes, size: int) -> bytes:
    """The header and the first bytes behind it."""
    return raw[: (raw[0] & 0x0F) * 4 + size]


def _another_port(packet: Packet, _raw: bytes) -> Sequence[bytes]:
    assert packet.ports is not None
    ports = ((packet.ports[0] + shift) % 65536 or 1 for shift in (1, 7, 4096))
    return [packets.write(replace(packet, body=port.to_bytes(2, "big") + packet.body[2:])) for port in ports]


def _another_destination(packet: Packet, _raw: bytes) -> Sequence[bytes]:
    return [packets.write(replace(packet, destination=ELSEWHERE))]


def _truncated(_: Packet, raw: bytes) -> Sequence[bytes]:
    return [_cut(raw, size) for size in (0, 2, 4, 6)] + [raw[:size] for size in (0, 1, 12, 19)]


def _another_sequence(packet: Packet, raw: bytes) -> Sequence[bytes]:
    """Right in all but what only we know: the sequence number; in datagrams there is none (see `_framed`)."""
    if packet.protocol != packets.TCP:
        return ()
    ports = packet.body[:4]
    return [_cut(raw, 0) + ports + zlib.crc32(ports + bytes([number])).to_bytes(4, "big") for number in range(3)]


def _as_sent(_: Packet, raw: bytes) -> Sequence[bytes]:
    return [raw]


# --- TCP, ping and floods --------------------------------------------------------------------------


def _resets(_: Host, packet: Packet, _raw: bytes, honest: list[bytes]) -> list[bytes]:
    """Resets that acknowledge what was not sent, or nothing, before the honest answer."""
    segment = packet.segment
    if segment is None or not segment.flags & SYN:
        return honest
    blank = Segment(segment.destination, segment.source, segment.seq, 0, RST)
    wrong = [blank, *(replace(blank, ack=segment.seq + off, flags=RST | ACK) for off in (0, 2, -1, 2**31))]
    return [*(_from(packet, one) for one in wrong), *honest]


def _syn_acks(_: Host, packet: Packet, _raw: bytes, honest: list[bytes]) -> list[bytes]:
    """Consents that acknowledge what was not sent, for every port."""
    segment = packet.segment
    if segment is None or not segment.flags & SYN:
        return honest
    back = Segment(segment.destination, segment.source, 1, 0, SYN | ACK, 65535)
    return [*(_from(packet, replace(back, ack=segment.seq + off)) for off in (0, 2, 2**31)), *honest]


def _echoes(_: Host, packet: Packet, _raw: bytes, honest: list[bytes]) -> list[bytes]:
    """Replies to pings that nobody sent."""
    if packet.icmp != (packets.ECHO, 0):
        return honest
    body = b"\0" + packet.body[1:]
    other_id = body[:4] + bytes([body[4] ^ 1]) + body[5:]
    other_words = body[:8] + bytes(len(body) - 8)
    forged = [(packet.destination, other_id), (packet.destination, other_words), (packet.destination, body[:8])]
    forged.append((ELSEWHERE, body))
    return [*(packets.write(Packet(who, packet.source, packets.ICMP, body)) for who, body in forged), *honest]


def _flood(host: Host, packet: Packet, _raw: bytes, honest: list[bytes]) -> list[bytes]:
    """Ten thousand datagrams from the port that was asked, three times at most."""
    if packet.ports is None or packet.protocol != packets.UDP or packet.ports[1] != _SIP or host.floods >= 3:
        return honest
    host.floods += 1
    junk = packets.udp(_SIP, packet.ports[0], b"synthetic" * 50, packet.destination, packet.source)
    return [*(honest if host.honest else ()), *[junk] * FLOOD]


def _error_flood(host: Host, packet: Packet, raw: bytes, honest: list[bytes]) -> list[bytes]:
    """As many words about the size of a packet that was sent, which refuse nothing."""
    if packet.ports is None or not _asks(packet) or packet.ports[1] != _SIP or host.floods >= 2:
        return honest
    host.floods += 1
    word = struct.pack("!HH", 0, 1400)
    return [*[_error(raw, packet.destination, packet.source, _FRAGMENTATION, word=word)] * FLOOD, *honest]


# --- SIP in datagrams ------------------------------------------------------------------------------


def _phones(change: Callable[[Packet], Sequence[Packet]]) -> Forger:
    """SIP answers in datagrams, changed; on TCP, the honest ones."""

    def forge(_: Host, packet: Packet, _raw: bytes, honest: list[bytes]) -> list[bytes]:
        if packet.protocol != packets.UDP or packet.ports is None or packet.ports[1] != _SIP:
            return honest
        answer = packets.read(_answered(packet))
        assert answer is not None
        return [packets.write(one) for one in change(answer)]

    return forge


def _reworded(*pairs: tuple[bytes, bytes]) -> Callable[[Packet], Sequence[Packet]]:
    def change(answer: Packet) -> Sequence[Packet]:
        words = answer.payload
        for old, new in pairs:
            words = words.replace(old, new)
        assert answer.ports is not None
        made = packets.read(packets.udp(*answer.ports, words, answer.source, answer.destination))
        return [] if made is None else [made]

    return change


_BRANCH = (b"branch=z9hG4bK", b"branch=z9hG4bKanother")
_CALL = (b"Call-ID: ", b"Call-ID: another")


# --- the host that is framed by another ------------------------------------------------------------


def _spy(_: Host, _packet: Packet, _raw: bytes, _honest: list[bytes]) -> list[bytes]:
    """A silent host that learns from which ports the scanner asks; `_Hosts` forges with them."""
    return []


def _framed(_: Host, _packet: Packet, _raw: bytes, honest: list[bytes]) -> list[bytes]:
    """An honest host that is slow."""
    return honest


FORGERS: Mapping[str, Forger] = MappingProxyType(
    {
        "spy": _spy,
        "framed": _framed,
        "icmp-another-port": _errors(_another_port),
        "icmp-another-destination": _errors(_another_destination, _PROHIBITED),
        "icmp-truncated": _errors(_truncated),
        "icmp-another-sequence": _errors(_another_sequence),
        "icmp-fragmentation": _errors(_as_sent, _FRAGMENTATION),
        "icmp-redirect": _errors(_as_sent, 1, _REDIRECT),
        "icmp-quench": _errors(_as_sent, 0, _QUENCH),
        "icmp-flood": _error_flood,
        "echo-of-others": _echoes,
        "reset-of-others": _resets,
        "consent-of-others": _syn_acks,
        "udp-flood": _flood,
        "sip-wrong-branch": _phones(_reworded(_BRANCH)),
        "sip-wrong-call-id": _phones(_reworded(_CALL)),
        "sip-wrong-both": _phones(_reworded(_BRANCH, _CALL)),
        "sip-trying": _phones(_reworded((b"SIP/2.0 200 OK", b"SIP/2.0 100 Trying"))),
        "sip-large": _phones(
            _reworded((b"Content-Length: 0\r\n\r\n", b"Content-Length: 60000\r\n\r\n" + bytes(_HUGE)))
        ),
        "sip-hundredfold": _phones(lambda answer: [answer] * _REPEATED),
        "sip-another-port": _phones(lambda answer: [replace(answer, body=b"\xd7\x14" + answer.body[2:])]),
        "sip-another-address": _phones(lambda answer: [replace(answer, source=ELSEWHERE)]),
    }
)


# --- on the wire -----------------------------------------------------------------------------------


class _Hosts:
    def __init__(self, hosts: Mapping[str, Host], heard: socket.socket, out: socket.socket) -> None:
        self._hosts, self._heard, self._out = hosts, heard, out
        self._ports: set[tuple[int, int]] = set()  # protocol, and port of the scanner
        self._framed = [host.address for host in hosts.values() if host.forges is _framed]

    def read(self) -> None:
        """Answer what lies there."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                raw, (_, _, direction, _, _) = self._heard.recvfrom(65575)
            except BlockingIOError:
                return
            host = self._hosts.get(socket.inet_ntoa(raw[16:20]))
            if host is None or direction == 4:  # PACKET_OUTGOING: on the loopback device each is seen twice
                continue
            if host.forges is _spy:
                self._frame(raw)
            if host.forges is _framed:
                loop.call_later(_LATE, self._send, host.answers(raw))
            else:
                self._send(host.answers(raw))

    def _frame(self, raw: bytes) -> None:
        """With the scanner's ports that are known, refuse in the name of another host."""
        packet = packets.read(raw)
        if packet is None or packet.ports is None:
            return
        self._ports.add((packet.protocol, packet.ports[0]))
        for victim in self._framed:
            for protocol, port in self._ports:
                body = struct.pack("!HHI", port, _SIP, 0x5EED_5EED)
                quoted = _cut(packets.write(Packet(packet.source, victim, protocol, body.ljust(20, b"\0"))), 8)
                self._send([_error(quoted, victim, packet.source)])

    def _send(self, made: Sequence[bytes]) -> None:
        if len(made) > _SLICE:  # others are answered in between
            asyncio.get_running_loop().call_soon(self._send, made[_SLICE:])
        for raw in made[:_SLICE]:
            with suppress(OSError):  # a full way out loses packets, as a real one does
                self._out.sendto(raw, (socket.inet_ntoa(raw[16:20]), 0))


@contextmanager
def standing(places: Mapping[str, tuple[str, bool]]) -> Iterator[None]:
    """The hosts of addresses within `SPACE`, each with its name of `FORGERS` and whether it is honest, too."""
    if not places:
        yield
        return
    hosts = {address: Host(address, FORGERS[name], honest) for address, (name, honest) in places.items()}
    loop = asyncio.get_running_loop()
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0) as heard,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as out,
    ):
        _only_to(heard, SPACE)
        heard.bind(("lo", 0x0800))
        made = _Hosts(hosts, heard, out)
        loop.add_reader(heard, made.read)
        try:
            yield
        finally:
            loop.remove_reader(heard)


def _only_to(sock: socket.socket, space: str) -> None:
    """Have the kernel keep packets to this /24 alone (a classic BPF program, linux/filter.h)."""
    network = int.from_bytes(socket.inet_aton(space), "big")
    program = (
        (0x20, 0, 0, 16),
        (0x54, 0, 0, 0xFFFFFF00),
        (0x15, 0, 1, network),
        (0x06, 0, 0, 0x40000),
        (0x06, 0, 0, 0),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))

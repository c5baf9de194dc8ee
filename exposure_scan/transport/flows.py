"""Conversations out of packets: who asked whom, what each said, in order, and in which frames."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from typing import Any, Literal, TypeAlias

from exposure_scan.conversation import Event, endpoint_text
from exposure_scan.model import Address

from .icmp import IcmpError
from .packets import ICMP, TCP, UDP, Packet

Transport: TypeAlias = Literal["tcp", "udp", "icmp"]
Endpoint: TypeAlias = tuple[str, int]
_Key: TypeAlias = tuple[int, Address, int, Address, int]  # protocol, the other's address and port, the host's

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_ECHO_REQUEST, _ECHO_REPLY = (8, 128), (0, 129)
_CHECKSUM6 = 128  # the request whose checksum our own socket leaves to the kernel


class Flow:
    """One conversation with a host, as the packets show it.

    A capture has no marks for silence, and TLS in it stays enciphered. `events` fit `conversation.replay`;
    the first packet is at 0 ms.

    Attributes:
        transport: tcp, udp or icmp.
        local: address and port of the host's partner; the port is the identifier for icmp.
        peer: address and port of the host; the port is 0 for icmp.
        asked: the first packet went to the host.
        requests: SYNs, datagrams or echo requests that went to the host.
        at: when the first packet was captured, seconds since 1970.
    """

    transport: Transport

    def __init__(self, local: Endpoint, peer: Endpoint, first: Packet) -> None:
        self.local, self.peer = local, peer
        self.asked = str(first.destination) == peer[0]
        self.requests = 0
        self.at = first.at
        self.events: list[Event] = []
        self._frames: list[int] = []
        self._now = first.at

    @property
    def frames(self) -> tuple[int, ...]:
        """The numbers of its packets in the file, ascending, each once; errors about them among them."""
        return tuple(sorted(set(self._frames)))

    def see(self, packet: Packet, outward: bool) -> None:
        """Take a packet of this flow; `outward` are those that go to the host."""
        self._frames += packet.frames
        self._now = packet.at
        self._take(packet.body, outward)

    def _take(self, body: bytes, outward: bool) -> None:
        raise NotImplementedError

    def refused(self, packet: Packet) -> None:
        """Take an ICMP error about a packet of this flow that went to the host."""
        self._frames += packet.frames
        self._now = packet.at
        error = IcmpError(packet.body[0], packet.body[1], packet.source)
        self._note("icmp", detail=error.detail)
        if error.refuses:
            self._refuse(error)

    def _refuse(self, _error: IcmpError) -> None:
        self._note("reset")

    def begins_anew(self, _packet: Packet, _outward: bool) -> bool:
        """Whether the packet, of the same addresses and ports, begins another conversation."""
        return False

    def _note(self, what: Any, data: bytes = b"", detail: str = "") -> None:
        self.events.append(Event((self._now - self.at) * 1000, what, data, detail))

    def _connect(self) -> None:
        peer = self.peer if self.transport != "icmp" else (self.peer[0], 0)
        self._note("connected", detail=f"{endpoint_text(self.local)} {endpoint_text(peer)}")


class _Datagrams(Flow):
    transport: Transport = "udp"

    def _take(self, body: bytes, outward: bool) -> None:
        if not self.events:
            self._connect()
        self.requests += outward
        self._note("sent" if outward else "received", body[8 : max(8, struct.unpack_from("!H", body, 4)[0])])


class _Echoes(Flow):
    transport: Transport = "icmp"

    def _take(self, body: bytes, outward: bool) -> None:
        if not self.events:
            self._connect()
        self.requests += outward
        if outward and body[0] == _CHECKSUM6:
            body = body[:2] + b"\0\0" + body[4:]
        self._note("sent" if outward else "received", body)


class _Stream(Flow):
    """Puts both directions in order, and drops what was sent twice (RFC 9293, section 3.4)."""

    transport: Transport = "tcp"

    def __init__(self, local: Endpoint, peer: Endpoint, first: Packet) -> None:
        super().__init__(local, peer, first)
        self._start: int | None = None  # the sequence number of the first SYN to the host
        self._next: dict[bool, int] = {}  # the sequence number expected, by direction
        self._early: dict[bool, dict[int, tuple[bytes, bool]]] = {True: {}, False: {}}
        self._open = False
        self._ended = False

    def begins_anew(self, packet: Packet, outward: bool) -> bool:
        sequence, flags = struct.unpack_from("!4xI5xB", packet.body)
        return bool(outward and flags & (_SYN | _ACK) == _SYN and self._start is not None and sequence != self._start)

    def _refuse(self, error: IcmpError) -> None:
        if not self._open and not self._ended:
            self._end("not-connected", error.reason)

    def _take(self, body: bytes, outward: bool) -> None:
        (sequence,) = struct.unpack_from("!4xI", body)
        fin, syn, reset = (bool(body[13] & bit) for bit in (_FIN, _SYN, _RST))
        if syn:
            self._next.setdefault(outward, (sequence + 1) % 2**32)
            if outward:
                self.requests += 1
                self._start = sequence if self._start is None else self._start
            elif not self._open and not self._ended:
                self._open = True
                self._connect()
            return
        if reset:
            if not outward and not self._ended:
                self._end(*(("reset", "") if self._open else ("not-connected", "rst")))
            return
        data = body[(body[12] >> 4) * 4 :]
        if self._open and outward in self._next and (data or fin):
            self._early[outward].setdefault(sequence, (b"", False))
            known, ended = self._early[outward][sequence]
            self._early[outward][sequence] = (max(known, data, key=len), ended or fin)
            self._deliver(outward)

    def _deliver(self, outward: bool) -> None:
        """Pass on what follows without a gap."""
        waiting = self._early[outward]
        progress = True
        while progress:
            progress = False
            for sequence in list(waiting):
                ahead = (sequence - self._next[outward] + 2**31) % 2**32 - 2**31  # signed distance
                if ahead > 0:
                    continue
                data, fin = waiting.pop(sequence)
                fresh = data[-ahead:] if ahead else data
                if len(data) + ahead < 0:
                    continue  # all of it was seen before
                self._next[outward] = (self._next[outward] + len(fresh)) % 2**32
                progress = progress or bool(fresh)
                if fresh and not self._ended:
                    self._note("sent" if outward else "received", fresh)
                if fin:
                    self._next[outward] = (self._next[outward] + 1) % 2**32
                    if not outward and not self._ended:
                        self._end("closed")

    def _end(self, what: Any, detail: str = "") -> None:
        self._ended = what != "closed"  # after the peer's FIN we may still send
        self._note(what, detail=detail)


_KINDS: dict[int, type[Flow]] = {TCP: _Stream, UDP: _Datagrams} | dict.fromkeys(ICMP, _Echoes)
_SHORTEST = {TCP: 20, UDP: 8} | dict.fromkeys(ICMP, 8)


def read_flows(packets: Iterable[Packet], hosts: Collection[Address]) -> list[Flow]:
    """Every conversation that the packets show with one of `hosts`, in the order of beginning.

    Args:
        packets: as `packets.read_packets` gives them.
        hosts: the addresses that are of interest.
    """
    flows: list[Flow] = []
    latest: dict[_Key, Flow] = {}
    for packet in packets:
        if packet.quoted is not None:
            key = _key(packet.quoted, True)
            if key is not None and key[3] in hosts and key in latest:
                latest[key].refused(packet)
            continue
        if len(packet.body) < _SHORTEST.get(packet.protocol, 0):
            continue
        ways = {
            key: outward
            for outward, host in ((True, packet.destination), (False, packet.source))
            if host in hosts and (key := _key(packet, outward)) is not None
        }
        key = next((key for key in ways if key in latest), next(iter(ways), None))
        if key is None:
            continue
        flow = latest.get(key)
        if flow is None or flow.begins_anew(packet, ways[key]):
            flow = latest[key] = _KINDS[packet.protocol]((str(key[1]), key[2]), (str(key[3]), key[4]), packet)
            flows.append(flow)
        flow.see(packet, ways[key])
    return flows


def _key(packet: Packet, outward: bool) -> _Key | None:
    """What tells the packet's flow; None where it has none."""
    ends = (packet.source, packet.destination) if outward else (packet.destination, packet.source)
    if packet.protocol in (TCP, UDP) and len(packet.body) >= 4:
        near, far = struct.unpack_from("!HH", packet.body)
        ports = (near, far) if outward else (far, near)
        return packet.protocol, ends[0], ports[0], ends[1], ports[1]
    echo = _ECHO_REQUEST if outward else _ECHO_REPLY
    if packet.protocol in ICMP and len(packet.body) >= 6 and packet.body[0] in echo:
        return packet.protocol, ends[0], int.from_bytes(packet.body[4:6], "big"), ends[1], 0
    return None

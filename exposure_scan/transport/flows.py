"""Conversations out of packets: who asked whom, what each said, in order, and in which frames."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from exposure_scan.conversation import Event, endpoint_text
from exposure_scan.model import Address

from .icmp import IcmpError
from .packets import ICMP, TCP, UDP, Packet
from .sides import MOST_PIECES, Side

MOST = 1_000_000  # flows
LIMIT = 64 * 1024**2  # bytes that the flows keep of what was said

Transport: TypeAlias = Literal["tcp", "udp", "icmp"]
Endpoint: TypeAlias = tuple[str, int]
_Key: TypeAlias = tuple[int, str, int, str, int]  # protocol, the other's address and port, the host's

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_ECHO_REQUEST, _ECHO_REPLY = (8, 128), (0, 129)
_CHECKSUM6 = 128  # the request whose checksum our own socket leaves to the kernel
_PORTS = struct.Struct("!HH")
_SEGMENT = struct.Struct("!4xIIBB")  # sequence and acknowledgment number, data offset, flags
_LEAST_QUOTED = 8  # bytes behind the IP header that an ICMP error quotes at least (RFC 792)
_WINDOW = 2**20  # bytes that a RST may be ahead of what was captured


class Flow:
    """One conversation with a host, as the packets show it.

    A capture has no marks for silence, and TLS in it stays enciphered. `events` fit `conversation.replay`;
    the first packet is at 0 ms, and time does not go back. Of a datagram that was captured in part, the event
    has that part, and says so in its detail.

    Attributes:
        transport: tcp, udp or icmp.
        local: address and port of the host's partner; the port is the identifier for icmp.
        peer: address and port of the host; the port is 0 for icmp.
        asked: the host's partner began: the first packet went to the host, for tcp the first SYN. Where no SYN
            of a tcp conversation was captured, this is a guess: who has the lower port was asked.
        requests: SYNs, datagrams or echo requests that went to the host.
        at: when the first packet was captured, seconds since 1970.
        conflicting: the same place of the stream came with different bytes. The first ones count.
    """

    __slots__ = ("_frames", "_missing", "_now", "asked", "at", "conflicting", "events", "local", "peer", "requests")

    transport: Transport

    def __init__(self, local: Endpoint, peer: Endpoint, at: float, asked: bool) -> None:
        self.local, self.peer = local, peer
        self.asked = asked
        self.requests = 0
        self.at = at
        self.conflicting = False
        self.events: list[Event] = []
        self._frames: list[int] = []
        self._now = at
        self._missing = False  # bytes, of a packet that was not captured to its end

    @property
    def frames(self) -> tuple[int, ...]:
        """The numbers of its packets in the file, ascending, each once; errors about them among them."""
        return tuple(sorted(set(self._frames)))

    @property
    def whole(self) -> bool:
        """Whether its beginning was captured, and no byte is missing of what both sides say that there was."""
        return not self._missing

    def see(self, packet: Packet, outward: bool) -> int:
        """Take a packet of this flow; `outward` are those that go to the host. Returns the bytes kept of it."""
        self._frames += packet.frames
        self._now = max(self._now, packet.at)
        self._missing = self._missing or packet.cut
        return self._take(packet, outward) if len(packet.body) >= _SHORTEST[packet.protocol] else 0

    def _take(self, packet: Packet, outward: bool) -> int:
        raise NotImplementedError

    def refused(self, packet: Packet, quoted: Packet) -> None:
        """Take an ICMP error that quotes a packet of this flow to the host; one that cannot know it says nothing."""
        self._frames += packet.frames
        self._now = max(self._now, packet.at)
        if len(quoted.body) < _LEAST_QUOTED or not self._is_quoted(quoted):
            return
        error = IcmpError(packet.body[0], packet.body[1], packet.source)
        self._note("icmp", detail=error.detail)
        if error.refuses:
            self._refuse(error)

    def _is_quoted(self, _quoted: Packet) -> bool:
        return True

    def _refuse(self, _error: IcmpError) -> None:
        self._note("reset")

    def begins_anew(self, _packet: Packet, _outward: bool) -> bool:
        """Whether the packet, of the same addresses and ports, begins another conversation."""
        return False

    def _note(self, what: Any, data: bytes = b"", detail: str = "") -> None:
        self.events.append(Event((self._now - self.at) * 1000, what, data, detail))

    def _say(self, outward: bool, data: bytes, size: int) -> int:
        """Note a datagram that had `size` bytes."""
        if not self.events:
            self._connect()
        self.requests += outward
        detail = f"{len(data)} of {size} bytes" if len(data) < size else ""
        self._note("sent" if outward else "received", data, detail)
        return len(data)

    def _connect(self) -> None:
        self._note("connected", detail=f"{endpoint_text(self.local)} {endpoint_text(self.peer)}")


class _Datagrams(Flow):
    __slots__ = ()

    transport: Transport = "udp"

    def _take(self, packet: Packet, outward: bool) -> int:
        size = max(8, int.from_bytes(packet.body[4:6], "big"))
        self._missing = self._missing or size > len(packet.body)
        return self._say(outward, packet.body[8:size], size - 8)

    def _is_quoted(self, quoted: Packet) -> bool:
        words = quoted.body[8:]
        return any(event.what == "sent" and event.data.startswith(words) for event in self.events)


class _Echoes(Flow):
    __slots__ = ()

    transport: Transport = "icmp"

    def _take(self, packet: Packet, outward: bool) -> int:
        body = packet.body
        if outward and body[0] == _CHECKSUM6:
            body = body[:2] + b"\0\0" + body[4:]
        return self._say(outward, body, len(body) + packet.cut)


class _Stream(Flow):
    """Puts both directions in order, and drops what was sent twice (RFC 9293, section 3.4)."""

    __slots__ = ("_early", "_ended", "_open", "_sides")

    transport: Transport = "tcp"

    def __init__(self, local: Endpoint, peer: Endpoint, at: float, asked: bool) -> None:
        super().__init__(local, peer, at, asked if local[1] == peer[1] else peer[1] < local[1])
        self._sides: dict[bool, Side] = {}  # by direction: outward, and from the host
        self._early: list[tuple[float, bool, int, bytes, bool]] = []  # said before the host has answered
        self._open = False
        self._ended = False

    @property
    def whole(self) -> bool:
        sides = self._sides.values()
        begun = bool(sides) and all(side.begun for side in sides)
        return begun and not self._missing and (not self._open or all(side.whole for side in sides))

    def begins_anew(self, packet: Packet, outward: bool) -> bool:
        if len(packet.body) < _SHORTEST[TCP]:
            return False
        sequence, _, _, flags = _SEGMENT.unpack_from(packet.body)
        if flags & (_SYN | _ACK | _RST) != _SYN:
            return False
        side = self._sides.get(outward)
        if side is None:  # else both sides may begin at once
            return not all(other.begun for other in self._sides.values()) or not self._sides
        return bool((sequence + 1 - side.base) % 2**32)

    def _is_quoted(self, quoted: Packet) -> bool:
        """Whether it has a sequence number that was sent (RFC 5927, section 4.1)."""
        side = self._sides.get(True)
        sequence = int.from_bytes(quoted.body[4:8], "big")
        return side is None or not side.begun or (sequence + 1 - side.base) % 2**32 <= side.next - side.base + 1

    def _is_reset(self, sequence: int, acknowledgment: int | None) -> bool:
        """Whether a RST of the host is one that a TCP would take (RFC 9293, sections 3.10.7.3 and 3.10.7.4)."""
        ours, theirs = self._sides.get(True), self._sides.get(False)
        if not self._open and ours is not None and ours.begun:
            return acknowledgment is not None and self._is_of_syn(acknowledgment, ours)
        return theirs is None or 0 <= theirs.position(sequence) - theirs.base <= theirs.next - theirs.base + _WINDOW

    def _is_of_syn(self, acknowledgment: int, side: Side) -> bool:
        """Whether it acknowledges the SYN, or that and what came with it."""
        early = sum(len(data) for _, outward, _, data, _ in self._early if outward)
        return (acknowledgment - side.base) % 2**32 <= early

    def _refuse(self, error: IcmpError) -> None:
        if not self._open and not self._ended:
            self._end("not-connected", error.reason)

    def _take(self, packet: Packet, outward: bool) -> int:
        sequence, acknowledgment, offset, flags = _SEGMENT.unpack_from(packet.body)
        data = packet.body[(offset >> 4) * 4 :]
        fin = bool(flags & _FIN) and not packet.cut
        if flags & _RST:
            told = acknowledgment if flags & _ACK else None
            if not outward and not self._ended and self._is_reset(sequence, told):
                refused = not self._open and True in self._sides and self._sides[True].begun
                self._end(*(("not-connected", "rst") if refused else ("reset", "")))
            return 0  # what it carries is a word about itself (RFC 9293, section 3.5.3)
        if flags & _SYN:
            sequence = (sequence + 1) % 2**32
            if not self._begin(sequence, acknowledgment if flags & _ACK else None, outward):
                return 0
        elif outward not in self._sides:
            self._sides[outward] = Side(sequence, False)
        if flags & _ACK and (other := self._sides.get(not outward)) is not None:
            other.acknowledged = max(other.acknowledged, other.position(acknowledgment))
        if self._ended or not (data or fin):
            return 0
        if not self._open and (outward or flags & _SYN):
            self._early.append((self._now, outward, sequence, data, fin))
            self._missing = self._missing or len(self._early) > MOST_PIECES
            del self._early[MOST_PIECES:]
            return len(data)
        if not self._open:  # the host speaks: its SYN was not captured, or comes late
            self._opens(late=True)
        return self._accept(outward, sequence, data, fin)

    def _begin(self, base: int, acknowledgment: int | None, outward: bool) -> bool:
        """Take a SYN; False if it is none of this conversation. `base` is the number of the first byte."""
        side, other = self._sides.get(outward), self._sides.get(not outward)
        if side is not None and (base - side.base) % 2**32:
            return False
        first = other is not None and other.begun and side is None
        if other is not None and first and acknowledgment is not None and not self._is_of_syn(acknowledgment, other):
            return False  # of a SYN that nobody sent
        if not any(known.begun for known in self._sides.values()):
            self.asked = outward == (acknowledgment is None)
        if side is None:
            side = self._sides[outward] = Side(base, True)
        side.begun = True
        if acknowledgment is None:
            self.requests += outward
            return True
        other = other or self._sides.setdefault(not outward, Side(acknowledgment, True))
        other.begun = other.begun or not (acknowledgment - other.base) % 2**32
        if not self._open and not self._ended:
            self._opens(late=False)
        return True

    def _opens(self, late: bool) -> None:
        """Pass on what was said before; `late` means that it was said on a connection that stood already."""
        now, early, self._early = self._now, self._early, []
        self._now = early[0][0] if late and early else now
        self._open = True
        self._connect()
        for at, outward, sequence, data, fin in early:
            self._now = at if late else now
            self._accept(outward, sequence, data, fin)
        self._now = now

    def _accept(self, outward: bool, sequence: int, data: bytes, fin: bool) -> int:
        """Pass on what follows without a gap; how many bytes are kept."""
        side = self._sides[outward]
        start = side.position(sequence)
        if start == side.base + 1 and side.next == side.base and not side.begun:
            side.base = side.next = start  # the byte before kept the connection alive
        if fin and side.end is None:
            side.end = start + len(data)
        pieces, fresh, differs = side.put(start, data)
        self.conflicting = self.conflicting or differs
        for piece in pieces:
            self._note("sent" if outward else "received", piece)
        if side.next == side.end:
            side.next += 1
            if not outward:
                self._end("closed")
        return fresh

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

    Raises:
        ValueError: there are more flows than `MOST`, or more bytes to keep than `LIMIT`; or `packets` raised it.
    """
    of_interest, kept = frozenset(hosts), 0
    flows: list[Flow] = []
    latest: dict[_Key, Flow] = {}

    @lru_cache(maxsize=65_536)
    def end(address: Address) -> tuple[str, bool]:
        return str(address), address in of_interest

    for packet in packets:
        protocol = packet.protocol
        shortest = _SHORTEST.get(protocol)
        if shortest is None:
            continue
        if protocol in ICMP and (quoted := packet.quoted) is not None:
            (near, _), (far, wanted) = end(quoted.source), end(quoted.destination)
            key = _key(quoted, near, far, True) if wanted else None
            if key is not None and key in latest:
                latest[key].refused(packet, quoted)
            continue
        if len(packet.body) < shortest and not packet.cut:
            continue
        (source, of_source), (destination, outward) = end(packet.source), end(packet.destination)
        key = _key(packet, source, destination, True) if outward else None
        if of_source and (key is None or key not in latest):  # both ends may be of interest
            other = _key(packet, destination, source, False)
            if other is not None and (key is None or other in latest):
                key, outward = other, False
        if key is None:
            continue
        flow = latest.get(key)
        if flow is None or flow.begins_anew(packet, outward):
            if len(flows) == MOST:
                raise ValueError(f"the capture shows more than {MOST:,} conversations; cut it to those in question")
            flow = latest[key] = _KINDS[protocol](key[1:3], key[3:], packet.at, outward)
            flows.append(flow)
        kept += flow.see(packet, outward)
        if kept > LIMIT:
            raise ValueError(f"the conversations hold more than {LIMIT:,} bytes; cut the capture to those in question")
    return flows


def _key(packet: Packet, near: str, far: str, outward: bool) -> _Key | None:
    """What tells the packet's flow; None where it has none. `far` is the host."""
    if packet.protocol in (TCP, UDP) and len(packet.body) >= 4:
        source, destination = _PORTS.unpack_from(packet.body)
        ports = (source, destination) if outward else (destination, source)
        return packet.protocol, near, ports[0], far, ports[1]
    echo = _ECHO_REQUEST if outward else _ECHO_REPLY
    if packet.protocol in ICMP and len(packet.body) >= 6 and packet.body[0] in echo:
        return packet.protocol, near, int.from_bytes(packet.body[4:6], "big"), far, 0
    return None

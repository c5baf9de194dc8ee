"""Packets out of capture files: pcap and pcapng, whatever link they were taken on, fragments put together.

A capture may come from anybody. What is no packet of IP is passed over, and everything is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from exposure_scan.model import Address

from .pieces import Pieces
from .recording import Recording

TCP, UDP, FRAGMENT = 6, 17, 44  # a fragment that is not the first, of either family
ICMP = MappingProxyType({1: (3, 11, 12), 58: (1, 2, 3, 4)})  # protocol: the types that are errors

# IPv6 extension headers (RFC 8200, section 4; RFC 4302)
_HOP_BY_HOP, _ROUTING, _DESTINATION, _AUTHENTICATION = 0, 43, 60, 51
_EXTENSIONS = frozenset({_HOP_BY_HOP, _ROUTING, _DESTINATION, _AUTHENTICATION, FRAGMENT})
_MOST_EXTENSIONS = 16

_LARGEST = 65_535  # bytes of a packet that was put together
_REASSEMBLY = 30.0  # seconds that Linux waits for fragments; their number may be used again later
_MOST_WAITING = 1024  # packets of which a fragment is missing
_MOST_BYTES = 4 * 1024**2  # of those, as in Linux

_ONE_AND_THE_SAME = 0.001  # seconds between the two sights of a packet that this machine sent itself
_MOST_SIGHTS = 4096
_COOKED, _COOKED2, _OUTGOING = 113, 276, 4  # linux/if_packet.h PACKET_OUTGOING


@dataclass(frozen=True, slots=True)
class Packet:
    """What matters of an IP packet; `body` follows the IP header and its extensions.

    `frames` are its numbers in the file, from 1 as Wireshark counts them: more than one where it came in
    fragments. `at` is when it was captured, or its last fragment, in seconds since 1970. `cut` says that
    bytes are missing at the end of `body`: fewer were captured than it has, or a fragment is not in the file.
    """

    source: Address
    destination: Address
    protocol: int
    body: bytes
    frames: tuple[int, ...] = ()
    at: float = 0.0
    cut: bool = False

    @property
    def quoted(self) -> Packet | None:
        """The packet that an ICMP error quotes, as far as it does; None for any other."""
        errors = ICMP.get(self.protocol, ())
        return parse(self.body[8:]) if len(self.body) > 8 and self.body[0] in errors else None


class _Fragment(NamedTuple):
    identification: int
    protocol: int  # of what is put together
    offset: int  # bytes
    more: bool
    size: int  # bytes; of `data` there may be fewer
    data: bytes


def parse(raw: bytes, frames: tuple[int, ...] = (), at: float = 0.0) -> Packet | None:
    """Read an IP packet, without the padding of short Ethernet frames; None if it is none.

    A first fragment has the protocol of its packet, and the beginning of its body.
    """
    parsed = _parse(raw, frames, at, False)
    return parsed and parsed[0]


class Packets(Iterator[Packet]):
    """The IP packets of a capture file, in its order.

    A packet of which fragments are missing comes at the end of the file, or when its place is needed.

    Attributes:
        truncated: the file ends in the middle of a packet; known when all were read.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._recording = Recording(file, name)
        self._packets = _packets(self._recording, name)

    @property
    def truncated(self) -> bool:  # noqa: D102 - above
        return self._recording.truncated

    def __iter__(self) -> Iterator[Packet]:
        return self._packets

    def __next__(self) -> Packet:
        return next(self._packets)


def read_packets(file: BinaryIO, name: str) -> Packets:
    """The IP packets of a pcap or pcapng file, in its order. They are read as they are asked for.

    Args:
        file: open for reading, at its beginning.
        name: of the file, for the error.

    Raises:
        ValueError: while reading: it is no capture, is damaged, was taken on a link that is not known, or is
            larger than `recording.LIMIT` allows.
    """
    return Packets(file, name)


def _packets(recording: Recording, name: str) -> Iterator[Packet]:
    fragments, sights = _Fragments(), _Sights()
    for number, (link, data, cut, at) in enumerate(recording, start=1):
        network = _LINKS.get(link)
        if network is None:
            raise ValueError(f"{name}: packet {number} was captured on a link of type {link}, which is not known here")
        start = network(data)
        if start < 0:
            continue
        raw = data[start:] if start else data
        if link in (_COOKED, _COOKED2) and sights.again(raw, at, data[1 if link == _COOKED else 10] == _OUTGOING):
            continue
        parsed = _parse(raw, (number,), at, cut)
        if parsed is None:
            continue
        packet, fragment = parsed
        if fragment is None:
            yield packet
        else:
            yield from fragments.add(packet, fragment)
    yield from fragments.rest()


# --- what stands before IP ---------------------------------------------------------------------------
# https://www.tcpdump.org/linktypes.html. Each function gives where the packet of IP begins, -1 if none does.

_IP_KINDS = frozenset({b"\x08\x00", b"\x86\xdd"})  # as Ethernet numbers them
_TAGS = frozenset({b"\x81\x00", b"\x88\xa8", b"\x91\x00"})  # IEEE 802.1Q, 802.1ad, and before that
_MOST_TAGS = 8
_PPPOE_SESSION = b"\x88\x64"
_PPP_KINDS = frozenset({b"\x00\x21", b"\x00\x57"})
_FAMILIES = frozenset({2, 10, 24, 28, 30})  # IPv4, and IPv6 on Linux, NetBSD and OpenBSD, FreeBSD, macOS


def _nothing(_data: bytes) -> int:
    return 0


def _family(data: bytes) -> int:
    """NULL and LOOP: the family in four bytes, in the byte order of whoever captured."""
    family = data[:4]
    known = int.from_bytes(family, "little") in _FAMILIES or int.from_bytes(family, "big") in _FAMILIES
    return 4 if known else -1


def _ethernet(data: bytes) -> int:
    return _behind(data, data[12:14], 14)


def _cooked(data: bytes) -> int:
    return _behind(data, data[14:16], 16)


def _cooked2(data: bytes) -> int:
    return _behind(data, data[:2], 20)


def _behind(data: bytes, kind: bytes, at: int) -> int:
    """Pass the tags of virtual networks and the header of PPPoE (RFC 2516); what is of `kind` begins at `at`."""
    for _ in range(_MOST_TAGS):
        if kind in _IP_KINDS:
            return at
        if kind == _PPPOE_SESSION:
            return _ppp(data, at + 6)
        if kind not in _TAGS:
            break
        kind, at = data[at + 2 : at + 4], at + 4
    return -1


def _ppp(data: bytes, at: int = 0) -> int:
    if data[at : at + 2] == b"\xff\x03":  # address and control (RFC 1662)
        at += 2
    return at + 2 if data[at : at + 2] in _PPP_KINDS else -1


_LINKS: dict[int, Callable[[bytes], int]] = {
    0: _family, 1: _ethernet, 9: _ppp, 12: _nothing, 14: _nothing, 101: _nothing, 108: _family,
    _COOKED: _cooked, 228: _nothing, 229: _nothing, _COOKED2: _cooked2,
}  # fmt: skip


class _Sights:
    """Packets that `tcpdump -i any` shows twice: as this machine sends them, and as it receives them itself.

    They are one where all bytes of IP are the same, its identification among them, within a millisecond,
    in the two directions.
    """

    def __init__(self) -> None:
        self._recent: dict[bytes, tuple[float, bool]] = {}  # by digest, oldest first

    def again(self, raw: bytes, at: float, outgoing: bool) -> bool:
        recent = self._recent
        while recent:
            oldest = next(iter(recent))
            if len(recent) < _MOST_SIGHTS and abs(at - recent[oldest][0]) <= _ONE_AND_THE_SAME:
                break
            del recent[oldest]
        digest = blake2b(raw, digest_size=16).digest()
        seen = recent.pop(digest, None)
        if seen is not None and seen[1] != outgoing and abs(at - seen[0]) <= _ONE_AND_THE_SAME:
            return True
        recent[digest] = (at, outgoing)
        return False


# --- IP --------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _address(raw: bytes) -> Address:
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)


def _parse(raw: bytes, frames: tuple[int, ...], at: float, cut: bool) -> tuple[Packet, _Fragment | None] | None:
    """Read a packet; `cut` counts only where its header does not tell its length."""
    size = len(raw)
    fragment = None
    if size >= 20 and raw[0] >> 4 == 4:
        length, identification, flags = struct.unpack_from("!HHH", raw, 2)
        cut, length = (cut and not length), length or size  # 0 where the network card cuts the segments
        start, protocol = max(20, (raw[0] & 0x0F) * 4), raw[9]
        if flags & 0x3FFF:
            offset, more, data = (flags & 0x1FFF) * 8, bool(flags & 0x2000), raw[start:length]
            fragment = _Fragment(identification, protocol, offset, more, max(0, length - start), data)
        ends = _address(raw[12:16]), _address(raw[16:20])
    elif size >= 40 and raw[0] >> 4 == 6:
        length = struct.unpack_from("!H", raw, 4)[0]
        cut, length = (cut and not length), 40 + length if length else size
        start, protocol = 40, raw[6]
        if protocol in _EXTENSIONS:
            protocol, start, fragment = _walk(raw[:length], protocol, 40, length)
        ends = _address(raw[8:24]), _address(raw[24:40])
    else:
        return None
    if fragment is not None and fragment.offset:
        protocol = FRAGMENT
    return Packet(*ends, protocol, raw[start:length], frames, at, cut or length > size), fragment


def _walk(raw: bytes, protocol: int, at: int, length: int) -> tuple[int, int, _Fragment | None]:
    """Pass the extension headers of IPv6: the protocol behind them, where it begins, and the fragment it is of.

    `length` is what `raw` has where it is whole. What follows the header of a later fragment is no header.
    """
    fragment = None
    for _ in range(_MOST_EXTENSIONS):
        if protocol not in _EXTENSIONS or at + 8 > len(raw):
            break
        kind, protocol, units = protocol, raw[at], raw[at + 1]
        if kind == FRAGMENT:
            place, identification = struct.unpack_from("!HI", raw, at + 2)
            at += 8
            if place & 0xFFF9 and fragment is None:  # else it is whole (RFC 6946)
                offset, more = place & 0xFFF8, bool(place & 1)
                fragment = _Fragment(identification, protocol, offset, more, length - at, raw[at:])
                if offset:
                    break
        else:
            at += (units + 2) * 4 if kind == _AUTHENTICATION else (units + 1) * 8
    return protocol, at, fragment


# --- fragments -------------------------------------------------------------------------------------


class _Parts:
    """A packet of which fragments are missing.

    Where fragments overlap the first counts (RFC 791 leaves it open), in IPv6 none does (RFC 8200, section 4.5).
    """

    def __init__(self, packet: Packet) -> None:
        self.since = packet.at
        self.held = 0  # bytes
        self._packet = packet
        self._strict = packet.source.version == 6
        self._protocol = packet.protocol
        self._pieces = Pieces()
        self._sizes: dict[int, int] = {}  # of the fragments that count, by their offset
        self._frames: list[int] = []
        self._end = 0  # of what came
        self._total: int | None = None
        self._void = False

    def add(self, packet: Packet, fragment: _Fragment) -> Packet | None:
        """Take a fragment; the packet, when it was the last that was missing."""
        end = fragment.offset + fragment.size
        last = None if fragment.more else end
        if self._void or not fragment.size or end > _LARGEST or (fragment.more and fragment.size % 8):
            return None
        if end > (self._total or end) or (last is not None and (last < self._end or last != (self._total or last))):
            self._clash()
            return None
        fresh, differs = self._pieces.put(fragment.offset, fragment.data)
        if fresh < len(fragment.data) and (differs or self._sizes.get(fragment.offset) != fragment.size):
            self._clash()
        if self._void or not fresh:
            return None
        self.held += fresh
        self._sizes[fragment.offset] = fragment.size
        self._frames += packet.frames
        self._end, self._total = max(self._end, end), last or self._total
        if not fragment.offset:
            self._protocol = fragment.protocol
        self._packet = packet
        return self.packet() if self.held == self._total else None

    def _clash(self) -> None:
        if self._strict:
            self._void, self._pieces = True, Pieces()

    def packet(self) -> Packet | None:
        """What there is from its beginning; None if that is missing."""
        body = b"".join(self._pieces.take(0))
        if not body:
            return None
        protocol, start = self._protocol, 0
        if self._strict:
            protocol, start, nested = _walk(body, protocol, 0, len(body))
            if nested is not None:
                return None
        frames, cut = tuple(sorted(self._frames)), len(body) != self._total
        return replace(self._packet, protocol=protocol, body=body[start:], frames=frames, cut=cut)


class _Fragments:
    """The packets of which fragments are missing, oldest first."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Address, Address, int, int], _Parts] = {}
        self._held = 0

    def add(self, packet: Packet, fragment: _Fragment) -> Iterator[Packet]:
        """Take a fragment; what it completes, and what has waited for too long."""
        yield from self._expired(packet.at)
        protocol = fragment.protocol if packet.source.version == 4 else FRAGMENT  # RFC 791, RFC 8200
        key = (packet.source, packet.destination, fragment.identification, protocol)
        parts = self._waiting.setdefault(key, _Parts(packet))
        before = parts.held
        whole = parts.add(packet, fragment)
        self._held += parts.held - before
        if whole is not None:
            self._held -= self._waiting.pop(key).held
            yield whole

    def _expired(self, now: float) -> Iterator[Packet]:
        while self._waiting:
            oldest = next(iter(self._waiting))
            parts = self._waiting[oldest]
            in_time = abs(now - parts.since) <= _REASSEMBLY
            if in_time and len(self._waiting) < _MOST_WAITING and self._held < _MOST_BYTES:
                break
            del self._waiting[oldest]
            self._held -= parts.held
            if (packet := parts.packet()) is not None:
                yield packet

    def rest(self) -> Iterator[Packet]:
        """What came of the packets that never became whole."""
        for parts in self._waiting.values():
            if (packet := parts.packet()) is not None:
                yield packet
        self._waiting.clear()

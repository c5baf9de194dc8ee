"""A scan's own flows in a hurry: those that nobody answered are counted, and only the others are read.

Of what a scan sends to a silent host all that matters is which frames it was. `read_flows` takes three to four times
as long to say so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from ipaddress import IPv4Address
from typing import NamedTuple, TypeAlias

from exposure_scan.model import Address

from .flows import Endpoint, Flow, read_flows
from .packets import TCP, UDP, Packet, parse, read_packets
from .pcap import ENTRY_HEADER, HEADER, stamp_of

_PLAIN = 0x45  # IPv4 without options
_IP, _PORTS_END = ENTRY_HEADER, ENTRY_HEADER + 24
_SHORTEST = {TCP: 40, UDP: 28}  # bytes of IP and the header behind it
_SYN = 0x02
_TRANSPORTS = {TCP: "tcp", UDP: "udp"}


class Unanswered(NamedTuple):
    """Packets to one port of a host that nothing came back for: SYNs with one number, or datagrams."""

    transport: str
    local: Endpoint
    peer: Endpoint
    at: float  # of the first, seconds since 1970
    frames: tuple[int, ...]


Sketch: TypeAlias = Flow | Unanswered


def sketched_flows(entries: Sequence[bytes], hosts: Collection[Address]) -> list[Sketch]:
    """The flows of a capture of our own with one of `hosts`; of those that nobody answered only the frames.

    Args:
        entries: as `pcap.entry` wrote them.
        hosts: the addresses that are of interest.

    Raises:
        ValueError: see `read_flows`.
    """
    packed = {host.packed for host in hosts if host.version == 4}
    groups: dict[bytes, list[int]] = {}  # numbers by protocol, addresses and ports
    loud: set[bytes] = set()  # groups that are more than unanswered
    rest: list[int] = []
    for number, whole in enumerate(entries, start=1):
        key = _unanswered(whole, packed)
        if key is None:
            rest.append(number)
            loud |= _answered(whole[ENTRY_HEADER:])
            continue
        group = groups.get(key)
        if group is None:
            groups[key] = [number]
            continue
        if key[0] == TCP and whole[_IP + 24 : _IP + 28] != entries[group[0] - 1][_IP + 24 : _IP + 28]:
            loud.add(key)  # the ports were used again
        group.append(number)
    found: list[Sketch] = []
    for key, group in groups.items():
        if key in loud:
            rest += group
        else:
            near, far = (_text(key[1:5]), key[9] * 256 + key[10]), (_text(key[5:9]), key[11] * 256 + key[12])
            found.append(Unanswered(_TRANSPORTS[key[0]], near, far, stamp_of(entries[group[0] - 1]), tuple(group)))
    rest.sort()
    return [*read_flows(_packets(entries, rest), hosts), *found]


def _packets(entries: Sequence[bytes], numbers: Sequence[int]) -> Iterator[Packet]:
    """The packets with these numbers, put together where they came in fragments."""
    file = BytesIO(HEADER + b"".join(entries[number - 1] for number in numbers))
    for packet in read_packets(file, "the capture"):
        yield replace(packet, frames=tuple(numbers[frame - 1] for frame in packet.frames))


def _unanswered(whole: bytes, packed: set[bytes]) -> bytes | None:
    """What tells a group, where the packet may be of one that nobody answers: a SYN or a datagram to a host."""
    if len(whole) < _PORTS_END or whole[_IP] != _PLAIN or whole[_IP + 6] & 0x3F or whole[_IP + 7]:
        return None
    protocol = whole[_IP + 9]
    size = len(whole) - _IP
    if size < _SHORTEST.get(protocol, size + 1) or int.from_bytes(whole[_IP + 2 : _IP + 4], "big") != size:
        return None
    if whole[_IP + 16 : _IP + 20] not in packed or whole[_IP + 12 : _IP + 16] in packed:
        return None
    if protocol == TCP and whole[_IP + 33] != _SYN:
        return None
    return whole[_IP + 9 : _IP + 10] + whole[_IP + 12 : _PORTS_END]


def _answered(raw: bytes) -> set[bytes]:
    """The groups that a packet is of, or is about, whichever way it goes."""
    packet = parse(raw)
    if packet is None:
        return set()
    packet = packet.quoted or packet
    if packet.source.version != 4 or len(packet.body) < 4:
        return set()
    protocol, near, far = bytes([packet.protocol]), packet.source.packed, packet.destination.packed
    ports = packet.body[:2], packet.body[2:4]
    return {protocol + near + far + ports[0] + ports[1], protocol + far + near + ports[1] + ports[0]}


@lru_cache(maxsize=4096)
def _text(packed: bytes) -> str:
    return str(IPv4Address(packed))

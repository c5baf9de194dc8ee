"""A scan's own flows in a hurry: of those that are plain to see only the frames are told, and the others are read.

Of what a scan asked all that matters here is which frames it was; what was said stands in its own record. `read_flows`
takes several times as long to say so, because it puts the streams together.
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
_IP = ENTRY_HEADER
_SIZE, _FRAGMENT, _PROTOCOL = slice(_IP + 2, _IP + 4), _IP + 6, _IP + 9
_CODE, _ENDS = slice(_IP + 9, _IP + 10), slice(_IP + 12, _IP + 24)  # the protocol; addresses and ports
_SOURCE, _DESTINATION = slice(_IP + 12, _IP + 16), slice(_IP + 16, _IP + 20)
_SOURCE_PORT, _DESTINATION_PORT = slice(_IP + 20, _IP + 22), slice(_IP + 22, _IP + 24)
_SEQUENCE, _FLAGS = slice(_IP + 24, _IP + 28), _IP + 33
_SHORTEST = {TCP: _IP + 40, UDP: _IP + 28}  # bytes of an entry with the header behind IP's
_SYN, _SYN_ACK_RST = 0x02, 0x16
_TRANSPORTS = {TCP: "tcp", UDP: "udp"}
_ICMP = 1  # for IPv4


class Sketched(NamedTuple):
    """A flow with a port of a host of which only the frames were read."""

    transport: str
    local: Endpoint
    peer: Endpoint
    at: float  # of the first, seconds since 1970
    frames: tuple[int, ...]  # errors about them among them


Sketch: TypeAlias = Flow | Sketched


def sketched_flows(entries: Sequence[bytes], hosts: Collection[Address]) -> list[Sketch]:
    """The flows of a capture of our own with one of `hosts`; of those that are plain to see only the frames.

    Plain are datagrams over IPv4, and connections that began with our SYN and whose ports were not used again.

    Args:
        entries: as `pcap.entry` wrote them.
        hosts: the addresses that are of interest.

    Raises:
        ValueError: see `read_flows`.
    """
    packed = {host.packed for host in hosts if host.version == 4}
    groups: dict[bytes, list[int]] = {}  # numbers by protocol, both addresses and both ports; the host's are second
    loud: set[bytes] = set()  # groups that have to be read
    rest: list[int] = []
    for number, whole in enumerate(entries, start=1):
        key, outward = _group(whole, packed)
        if key is None:
            about = _about(whole)
            if about in groups:
                groups[about].append(number)
            else:
                rest.append(number)
                loud |= _either_way(whole[ENTRY_HEADER:])
            continue
        group = groups.get(key)
        if key[0] == TCP:
            begins = whole[_FLAGS] & _SYN_ACK_RST == _SYN
            if group is None:
                plain = begins and outward
            else:
                plain = not begins or (outward and whole[_SEQUENCE] == entries[group[0] - 1][_SEQUENCE])
            if not plain:
                loud.add(key)
        if group is None:
            groups[key] = [number]
        else:
            group.append(number)
    found: list[Sketch] = []
    for key, group in groups.items():
        if key in loud:
            rest += group
        else:
            near, far = (_text(key[1:5]), key[9] * 256 + key[10]), (_text(key[5:9]), key[11] * 256 + key[12])
            found.append(Sketched(_TRANSPORTS[key[0]], near, far, stamp_of(entries[group[0] - 1]), tuple(group)))
    if not rest:
        return found
    rest.sort()
    return [*read_flows(_packets(entries, rest), hosts), *found]


def _packets(entries: Sequence[bytes], numbers: Sequence[int]) -> Iterator[Packet]:
    """The packets with these numbers, put together where they came in fragments."""
    file = BytesIO(HEADER + b"".join(entries[number - 1] for number in numbers))
    for packet in read_packets(file, "the capture"):
        yield replace(packet, frames=tuple(numbers[frame - 1] for frame in packet.frames))


def _is_plain(whole: bytes) -> bool:
    """IPv4 without options, in one piece, as long as it says."""
    return (
        len(whole) >= _IP + 28
        and whole[_IP] == _PLAIN
        and not (whole[_FRAGMENT] & 0x3F or whole[_FRAGMENT + 1])
        and int.from_bytes(whole[_SIZE], "big") == len(whole) - _IP
    )


def _group(whole: bytes, packed: set[bytes]) -> tuple[bytes | None, bool]:
    """What tells a packet's group, and whether it goes to the host; None where it is not plain of one host."""
    if not _is_plain(whole) or len(whole) < _SHORTEST.get(whole[_PROTOCOL], len(whole) + 1):
        return None, False
    outward = whole[_DESTINATION] in packed
    if outward == (whole[_SOURCE] in packed):
        return None, False
    if outward:
        return whole[_CODE] + whole[_ENDS], True
    return whole[_CODE] + whole[_DESTINATION] + whole[_SOURCE] + whole[_DESTINATION_PORT] + whole[_SOURCE_PORT], False


def _about(whole: bytes) -> bytes | None:
    """The group that an ICMP error is about; None for any other packet."""
    if not _is_plain(whole) or whole[_PROTOCOL] != _ICMP:
        return None
    packet = parse(whole[ENTRY_HEADER:])
    quoted = packet.quoted if packet is not None else None
    if quoted is None or quoted.protocol not in _TRANSPORTS or quoted.source.version != 4 or len(quoted.body) < 4:
        return None
    return bytes([quoted.protocol]) + quoted.source.packed + quoted.destination.packed + quoted.body[:4]


def _either_way(raw: bytes) -> set[bytes]:
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

"""Packets out of capture files: pcap and pcapng, whatever link they were taken on, fragments put together.

A capture may come from anybody. What is no packet of IP is passed over, and everything is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Any, BinaryIO

from exposure_scan.model import Address

TCP, UDP, FRAGMENT = 6, 17, 44  # IPv6 says 44 itself; of IPv4 all fragments but the first are meant
ICMP = MappingProxyType({1: (3, 11, 12), 58: (1, 2, 3, 4)})  # protocol: the types that are errors


@dataclass(frozen=True, slots=True)
class Packet:
    """What matters of an IP packet; `body` follows the IP header.

    `frames` are its numbers in the file, from 1 as Wireshark counts them: more than one where it came in
    fragments. `at` is when it was captured, in seconds since 1970.
    """

    source: Address
    destination: Address
    protocol: int
    body: bytes
    frames: tuple[int, ...] = ()
    at: float = 0.0

    @property
    def quoted(self) -> Packet | None:
        """The packet that an ICMP error quotes; None for any other."""
        errors = ICMP.get(self.protocol, ())
        return parse(self.body[8:]) if len(self.body) > 8 and self.body[0] in errors else None


def parse(raw: bytes, frames: tuple[int, ...] = (), at: float = 0.0) -> Packet | None:
    """Read an IP packet, without the padding of short Ethernet frames; None if it is none."""
    if len(raw) >= 20 and raw[0] >> 4 == 4:
        start, length, fragment = (raw[0] & 0x0F) * 4, *struct.unpack_from("!H2xH", raw, 2)
        protocol = FRAGMENT if fragment & 0x1FFF else raw[9]
        end = length or len(raw)  # 0 where the network card cuts the segments
        body = raw[max(20, start) : end]
        return Packet(IPv4Address(raw[12:16]), IPv4Address(raw[16:20]), protocol, body, frames, at)
    if len(raw) >= 40 and raw[0] >> 4 == 6:
        end = 40 + (struct.unpack_from("!H", raw, 4)[0] or len(raw))
        return Packet(IPv6Address(raw[8:24]), IPv6Address(raw[24:40]), raw[6], raw[40:end], frames, at)
    return None


def read_packets(file: BinaryIO, name: str) -> Iterator[Packet]:
    """The IP packets of a pcap or pcapng file, in its order.

    Args:
        file: open for reading, at its beginning.
        name: of the file, for the error.

    Raises:
        ValueError: it is no capture.
    """
    from scapy.error import Scapy_Exception
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import CookedLinux, Ether
    from scapy.utils import RawPcapReader

    first_layers = {1: (Ether, 14), 113: (CookedLinux, 16)}
    try:
        for number, (data, meta) in enumerate(reader := RawPcapReader(file), start=1):
            linktype = getattr(meta, "linktype", None) or getattr(reader, "linktype", 101)
            if linktype in first_layers:
                first, header = first_layers[linktype]
                layers = first(data) if len(data) >= header else None
                layer = layers and (layers.getlayer(IP) or layers.getlayer(IPv6))
                data = layer.original if layer else b""
            packet = parse(data, (number,), _stamp(meta, getattr(reader, "nano", False)))
            if packet is not None:
                yield packet
    except (Scapy_Exception, struct.error) as error:
        raise ValueError(f"{name} is no capture: {error}") from None


def _stamp(meta: Any, nano: bool) -> float:
    if hasattr(meta, "sec"):
        return float(meta.sec) + float(meta.usec) / (1e9 if nano else 1e6)
    ticks = (int(meta.tshigh or 0) << 32) + int(meta.tslow or 0)  # pcapng
    return ticks / float(meta.tsresol or 1_000_000)

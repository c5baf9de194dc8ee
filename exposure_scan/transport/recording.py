"""Capture files, record by record: pcap and pcapng, as tcpdump and Wireshark write them.

scapy's reader takes the short last record of a cut file for a whole packet, cuts packets at 65,535 bytes
and believes any length that a file claims. A file may come from anybody, so the two formats are read here.
Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

LIMIT = 1024**3  # bytes of a file
LARGEST = 262_144  # bytes of a packet, as much as tcpdump takes
MOST = 5_000_000  # packets; blocks of a pcapng file count alike

CLASSIC = MappingProxyType({  # magic number: byte order, parts of a second
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
})  # fmt: skip
_SECTION = b"\n\r\r\n"  # the same in both byte orders
_ORDERS = MappingProxyType({b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"})
_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 1, 2, 3, 6
_END_OF_OPTIONS, _RESOLUTION, _OFFSET = 0, 9, 14  # options of an interface
_LARGEST_BLOCK = 16 * 1024**2  # bytes; name tables and TLS keys are passed over, packets are far smaller
_MOST_INTERFACES = 65_536
_LAST_SECOND = 253_402_300_800  # the year 10000


class Record(NamedTuple):
    """A captured packet, with the header of its link.

    `cut` says that more of it passed the wire than was kept. `at` is in seconds since 1970.
    """

    link: int  # as in tcpdump.org's list of link-layer header types
    data: bytes
    cut: bool
    at: float


class _Interface(NamedTuple):
    link: int
    parts: int  # of a second, that its stamps count
    offset: int  # seconds to add
    kept: int  # bytes of a packet at most; 0 is all


class Recording:
    """The records of a capture file, in its order.

    Attributes:
        truncated: the file ends in the middle of a record; known when all were read.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.truncated = False
        self._file = file
        self._name = name
        self._left = LIMIT

    def __iter__(self) -> Iterator[Record]:
        """Read the file, once.

        Raises:
            ValueError: it is no capture, is damaged, or exceeds a limit.
        """
        magic = self._file.read(4)
        if magic in CLASSIC:
            return self._classic(*CLASSIC[magic])
        if magic == _SECTION:
            return self._blocks()
        raise ValueError(f"{self._name} is no capture: it begins neither as pcap nor as pcapng")

    def _classic(self, order: str, parts: int) -> Iterator[Record]:
        header = self._file.read(20)
        if len(header) < 20:
            raise ValueError(f"{self._name} is no capture: it ends in its header")
        major, link = struct.unpack(order + "H14xI", header)
        if major != 2:
            raise ValueError(f"{self._name} is no capture of a known kind: pcap version {major} instead of 2")
        link &= 0xFFFF  # above are the length of checksums, and reserved bits
        unpack, read, number = struct.Struct(order + "IIII").unpack, self._file.read, 0
        while head := read(16):
            number += 1
            if len(head) < 16:
                self.truncated = True
                return
            seconds, part, size, wire = unpack(head)
            self._check(number, size)
            data = read(size)
            if len(data) < size:
                self.truncated = True
                return
            self._spend(16 + size)
            yield Record(link, data, size < wire, seconds + part / parts)

    def _blocks(self) -> Iterator[Record]:
        kind, order, interfaces, blocks, number = _SECTION, "", list[_Interface](), 0, 0
        stamp, begun = 0.0, False
        try:
            while kind:
                blocks += 1
                size = self._exactly(4)
                if kind == _SECTION:
                    order, interfaces = self._order(), []
                block = self._block(blocks, order, struct.unpack(order + "I", size)[0], kind == _SECTION)
                (code,) = struct.unpack(order + "I", kind)
                if kind == _SECTION:
                    begun = True
                elif code == _INTERFACE:
                    interfaces.append(self._interface(blocks, order, block))
                elif code in (_OLD_PACKET, _SIMPLE_PACKET, _PACKET):
                    number += 1
                    record = self._packet(number, code, order, block, interfaces, stamp)
                    stamp = record.at
                    yield record
                self._check(blocks, 0)
                kind = self._file.read(4)
                if kind and len(kind) < 4:
                    raise EOFError
        except EOFError:
            if not begun:
                raise ValueError(f"{self._name} is no capture: it ends in its header") from None
            self.truncated = True

    def _order(self) -> str:
        mark = self._exactly(4)
        if mark not in _ORDERS:
            raise self._damaged("a section without a byte order")
        return _ORDERS[mark]

    def _block(self, number: int, order: str, size: int, section: bool) -> bytes:
        """The rest of a block, without its lengths."""
        read = 12 if section else 8
        if size % 4 or not read + 4 <= size <= _LARGEST_BLOCK:
            raise self._damaged(f"block {number} claims {size} bytes")
        block = self._exactly(size - read - 4)
        if struct.unpack(order + "I", self._exactly(4)) != (size,):
            raise self._damaged(f"block {number} ends with another length than it begins with")
        self._spend(size)
        return block

    def _interface(self, number: int, order: str, block: bytes) -> _Interface:
        if len(block) < 8 or number > _MOST_INTERFACES:
            raise self._damaged(f"block {number} describes no interface")
        link, kept = struct.unpack_from(order + "H2xI", block)
        parts, offset, at = 1_000_000, 0, 8
        while at + 4 <= len(block):
            option, size = struct.unpack_from(order + "HH", block, at)
            value, at = block[at + 4 : at + 4 + size], at + 4 + size + -size % 4
            if option == _END_OF_OPTIONS:
                break
            if option == _RESOLUTION and len(value) == 1:
                parts = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif option == _OFFSET and len(value) == 8:
                (offset,) = struct.unpack(order + "q", value)
        return _Interface(link, parts, offset, kept)

    def _packet(
        self, number: int, code: int, order: str, block: bytes, interfaces: list[_Interface], stamp: float
    ) -> Record:
        """The packet of a block; one without a stamp has that of the packet before."""
        which, ticks, start = 0, None, 20
        if len(block) < (4 if code == _SIMPLE_PACKET else 20):
            raise self._damaged(f"packet {number} has no header")
        if code == _SIMPLE_PACKET:
            start, (wire,) = 4, struct.unpack_from(order + "I", block)
            size = min(wire, (interfaces[0].kept if interfaces else 0) or wire)
        else:
            layout = "IIIII" if code == _PACKET else "H2xIIII"  # the old block counts lost packets, too
            which, high, low, size, wire = struct.unpack_from(order + layout, block)
            ticks = (high << 32) + low
        if which >= len(interfaces):
            raise self._damaged(f"packet {number} is of an interface that was not described")
        self._check(number, size)
        if size > len(block) - start:
            raise self._damaged(f"packet {number} is longer than its block")
        interface = interfaces[which]
        if ticks is not None:
            stamp = ticks / interface.parts + interface.offset
        if not 0 <= stamp < _LAST_SECOND:
            raise self._damaged(f"packet {number} has a time of no calendar")
        return Record(interface.link, block[start : start + size], size < wire, stamp)

    def _check(self, number: int, size: int) -> None:
        if size > LARGEST:
            raise self._damaged(f"packet {number} claims {size} bytes, more than the {LARGEST} that one may have")
        if number > MOST:
            raise ValueError(f"{self._name} holds more than {MOST:,} packets; cut it to the hosts in question")

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"{self._name} is larger than {LIMIT:,} bytes; cut it to the hosts in question")

    def _damaged(self, what: str) -> ValueError:
        return ValueError(f"{self._name} is damaged, or no capture: {what}")

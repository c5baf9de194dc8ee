"""SYNs as they go out over a raw socket, and what their answers say (RFC 9293, section 3.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .headers import summed

_FLAGS_SYN = 0x02
_MSS = {4: b"\x02\x04\x05\xb4", 6: b"\x02\x04\x05\xa0"}  # the option that every stack sends: 1,460 and 1,440 bytes
_TTL, _WINDOW = 64, 64240
_HEAD = struct.Struct("!HHIIBBHHH")


class SynTemplate:
    """The SYNs from this machine to one host: made once, and filled in for each.

    Args:
        source: our packed address.
        host: the packed address that is asked.
    """

    def __init__(self, source: bytes, host: bytes) -> None:
        version = 4 if len(host) == 4 else 6
        body = _HEAD.pack(0, 0, 0, 0, 0x60, _FLAGS_SYN, _WINDOW, 0, 0) + _MSS[version]
        if version == 4:  # the kernel fills in the identification and the checksum
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, _TTL, 6, 0)
        else:
            ip = struct.pack("!IHBB", 0x60000000, len(body), 6, _TTL)
        self._ip = ip + source + host
        self._sum = ~int.from_bytes(summed(source, host, 6, body), "big") & 0xFFFF
        self._end = _MSS[version]

    def syn(self, port: int, host_port: int, sequence: int) -> bytes:
        """A SYN with its IP header, from our `port` to the host's, with our initial sequence number."""
        total = self._sum + port + host_port + (sequence >> 16) + (sequence & 0xFFFF)
        total = (total & 0xFFFF) + (total >> 16)
        total = ~(total + (total >> 16)) & 0xFFFF
        head = _HEAD.pack(port, host_port, sequence, 0, 0x60, _FLAGS_SYN, _WINDOW, total, 0)
        return self._ip + head + self._end


@dataclass(frozen=True, slots=True)
class Reply:
    """A segment that came in: from where, what it acknowledges, and its flags."""

    host: bytes  # packed
    port: int
    local_port: int
    acknowledged: int
    flags: int

    @property
    def accepts(self) -> bool:
        """SYN and ACK."""
        return self.flags & 0x12 == 0x12

    @property
    def refuses(self) -> bool:
        """RST."""
        return bool(self.flags & 0x04)


def read(raw: bytes) -> Reply | None:
    """What a packet from its IP header on says; None if it is no TCP segment."""
    version = raw[0] >> 4
    start = (raw[0] & 0x0F) * 4 if version == 4 else 40
    if len(raw) < start + 20:
        return None
    port, local_port, acknowledged, flags = struct.unpack_from("!HH4xIxB", raw, start)
    return Reply(raw[12:16] if version == 4 else raw[8:24], port, local_port, acknowledged, flags)

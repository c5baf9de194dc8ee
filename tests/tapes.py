"""Captures that are made by hand, packet by packet; everybody in them is synthetic."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from exposure_scan.lab.packets import (
    ACK,
    FIN,
    ICMP,
    SYN,
    Packet,
    Segment,
    tcp,
    udp,
    write,
)
from exposure_scan.model import Port, Scan, Status
from exposure_scan.sweep.replayed import replayed

HOST, SOMEBODY = "198.51.100.10", "198.51.100.250"
ROUTER = "198.51.100.1"


def ports(scan: Scan) -> dict[str, Port]:
    return {port.key: port for port in scan.hosts[0].ports}


def statuses(scan: Scan) -> dict[str, Status]:
    return {finding.practice: finding.status for finding in scan.findings}


# --- captures that are made here ------------------------------------------------------------------


@dataclass
class Tape:
    """Packets as they pass, a hundredth of a second between two."""

    path: Path
    records: list[bytes] = field(default_factory=list)
    now: float = 1_790_000_000.0

    def add(self, *packets: bytes) -> None:
        for packet in packets:
            self.now += 0.01
            stamp = divmod(round(self.now * 1e6), 10**6)
            self.records.append(struct.pack("<IIII", *stamp, len(packet), len(packet)) + packet)

    def stream(self, port: int, *said: bytes, near: int = 40000, of: str = SOMEBODY, to: str = HOST) -> None:
        """A connection of `of` to `to`: what begins with < comes from the host."""
        self.add(tcp(Segment(near, port, 100, 0, SYN), of, to), tcp(Segment(port, near, 500, 101, SYN | ACK), to, of))
        self.said(port, *said, near=near, of=of, to=to)

    def said(self, port: int, *said: bytes, near: int = 40000, of: str = SOMEBODY, to: str = HOST) -> None:
        ours, theirs = 101, 501
        for words in said:
            if words.startswith(b"<"):
                self.add(tcp(Segment(port, near, theirs, ours, ACK, 9, words[1:]), to, of))
                theirs += len(words) - 1
            else:
                self.add(tcp(Segment(near, port, ours, theirs, ACK, 9, words), of, to))
                ours += len(words)
        self.add(tcp(Segment(near, port, ours, theirs, FIN | ACK), of, to))

    def datagrams(self, port: int, *said: bytes, near: int = 40000, of: str = SOMEBODY, to: str = HOST) -> None:
        for words in said:
            back = words.startswith(b"<")
            self.add(udp(port, near, words[1:], to, of) if back else udp(near, port, words, of, to))

    def ping(self, answered: bool, of: str = SOMEBODY, number: int = 1) -> None:
        for kind, ends in ((8, (of, HOST)), (0, (HOST, of)))[: 1 + answered]:
            self.add(write(Packet(*ends, ICMP, struct.pack("!BBHHH", kind, 0, 0, 7, number) + b"synthetic")))

    def written(self) -> Path:
        head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)
        self.path.write_bytes(head + b"".join(self.records))
        return self.path

    def judged(self, **words: str) -> Scan:
        return replayed(self.written(), [HOST], **words).result.scan  # type: ignore[arg-type]

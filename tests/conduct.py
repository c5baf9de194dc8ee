"""A witness of the wire: all that leaves this machine while scans run, seen and read without a line of the product's.

The witness is a packet socket of its own in the test's process; the scans run in others. It reads IPv4, IPv6, TCP,
UDP and ICMP by the RFCs (791, 8200, 9293, 768, 792, 4443); `test_conduct` holds its reading to scapy's.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

US = frozenset({"198.51.100.250", "2001:db8::250"})  # where the practice site's scanner stands
DRAWN = 32768  # the kernel, and Nmap, draw our ports from here on; no device serves one of them
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58

_SO_TIMESTAMPNS, _SO_RCVBUFFORCE, _PACKET_STATISTICS = 35, 33, 6  # asm-generic/socket.h, linux/if_packet.h
_SOL_PACKET, _OUTGOING, _ETH_P_ALL = 263, 4, 3
_BUFFER = 64 * 1024 * 1024
_ECHO, _UNREACHABLE = (8, 128), (3, 1)  # types of ICMP and of ICMPv6
_MARK = ("127.0.0.1", 9)  # RFC 863, the discard service; nobody serves it
_PATIENCE = 10.0  # seconds for what takes a moment; only a fault uses them up
_LISTEN, _TIME_WAIT = 0x0A, 0x06  # linux/tcp_states.h


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as it left. `size` are its bytes from the IP header on; `data` is what it says."""

    at: float  # seconds since 1970
    source: str
    destination: str
    protocol: int
    size: int
    ports: tuple[int, int] = (0, 0)  # of TCP and UDP: source and destination; of ICMP type and code
    flags: int = 0
    sequence: int = 0
    acknowledged: int = 0
    data: bytes = b""

    @property
    def ours(self) -> bool:
        """Whether the scanner sent it.

        On the loopback device the kernel speaks to a device's address from that address itself, so only the ports
        tell who is who.
        """
        if self.source in US:
            return True
        if self.destination in US:
            return False
        if self.protocol in (ICMP, ICMP6):
            return self.ports[0] in _ECHO or (self.ports[0] in _UNREACHABLE and not _of_ours(self.data))
        return self.ports[0] >= DRAWN > self.ports[1]

    @property
    def peer(self) -> str:
        """The other side of the scanner."""
        return self.destination if self.ours else self.source

    @property
    def asks(self) -> bool:
        """Whether a program of ours wanted it: a SYN, words, a datagram, an echo; not an answer of the kernel's."""
        return self.protocol != TCP or bool(self.flags & SYN) or bool(self.data)


def _of_ours(error: bytes) -> bool:
    """Whether an ICMP error quotes a packet of ours: from a port that was drawn to one that was not."""
    inner = error[8:]
    start = (inner[0] & 15) * 4 if inner[0] >> 4 == 4 else 40
    near, far = struct.unpack_from("!HH", inner, start)
    return bool(near >= DRAWN > far)


def read(at: float, raw: bytes) -> Packet:
    """The packet in these bytes.

    Raises:
        ValueError: it is a fragment or cut, which nothing of ours may be.
    """
    if raw[0] >> 4 == 4:
        start, protocol, size = (raw[0] & 15) * 4, raw[9], int.from_bytes(raw[2:4])
        source, destination = raw[12:16], raw[16:20]
        if int.from_bytes(raw[6:8]) & 0x3FFF:
            raise ValueError("a fragment")
    else:
        start, protocol, size = 40, raw[6], 40 + int.from_bytes(raw[4:6])
        source, destination = raw[8:24], raw[24:40]
    if size > len(raw):
        raise ValueError("a packet that was cut")
    body = raw[start:size]
    ends = str(ip_address(source)), str(ip_address(destination))
    if protocol == TCP:
        near, far, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", body)
        data = body[(offset >> 4) * 4 :]
        return Packet(at, *ends, protocol, size, (near, far), flags, sequence, acknowledged, data)
    if protocol == UDP:
        return Packet(at, *ends, protocol, size, struct.unpack_from("!HH", body), data=body[8:])
    if protocol in (ICMP, ICMP6):
        return Packet(at, *ends, protocol, size, (body[0], body[1]), data=body)
    return Packet(at, *ends, protocol, size, data=body)


# --- the witness ----------------------------------------------------------------------------------


@dataclass
class Record:
    """What the witness saw, in order."""

    raw: list[tuple[float, bytes]] = field(default_factory=list)
    dropped: int = 0
    left_open: tuple[str, ...] = ()  # connections that had not ended some seconds after the scans

    def packets(self) -> list[Packet]:
        """All of them, without what this machine says to itself."""
        found = [read(at, raw) for at, raw in self.raw]
        return [one for one in found if not ip_address(one.destination).is_loopback]


@contextmanager
def witnessed() -> Iterator[Record]:
    """See what leaves on the loopback device while the block runs, and until all connections have ended."""
    record = Record()
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as sock:
        sock.bind(("lo", _ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.settimeout(_PATIENCE)
        mark = threading.Event()
        thread = threading.Thread(target=_watch, args=(sock, record, mark), daemon=True)
        thread.start()
        try:
            yield record
            record.left_open = _all_ended()
        finally:
            mark.set()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"the last one", _MARK)
            thread.join(_PATIENCE)
        assert not thread.is_alive(), "the mark of the end never came by"
        _, record.dropped = struct.unpack("=II", sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))


def _watch(sock: socket.socket, record: Record, mark: threading.Event) -> None:
    while True:
        try:
            raw, ancillary, _, (_, _, direction, *_) = sock.recvmsg(65575, 64)
        except TimeoutError:
            continue
        if direction != _OUTGOING:  # the loopback device shows each packet a second time, coming in
            continue
        seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
        record.raw.append((seconds + nanoseconds / 1e9, raw))
        if mark.is_set() and raw.endswith(b"the last one"):
            return


def _all_ended() -> tuple[str, ...]:
    """Wait until no connection of ours is on either side; those that still are, as the kernel tells them."""
    waited = threading.Event()
    for _ in range(round(_PATIENCE / 0.02)):
        left = tuple(_connections())
        if not left:
            return ()
        waited.wait(0.02)  # the kernel tells nobody when a connection has ended
    return left


def _connections() -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        for row in Path("/proc/net", name).read_text().splitlines()[1:]:
            words = row.split()
            ends = [_address(word) for word in words[1:3]]
            ours = US & set(ends) or (ends[0] == ends[1] and not ip_address(ends[0]).is_loopback)
            if ours and int(words[3], 16) not in (_LISTEN, _TIME_WAIT):
                yield f"{words[1]} {words[2]} in state {words[3]}"


def _address(word: str) -> str:
    packed = bytes.fromhex(word.split(":")[0])
    return str(ip_address(b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))))


# --- connections ----------------------------------------------------------------------------------


@dataclass
class Connection:
    """All that passed between two TCP ports from a SYN of ours on; its packets in the order of the wire."""

    host: str
    port: int
    local_port: int
    packets: list[Packet] = field(default_factory=list)

    def sent(self, flag: int, *, by_us: bool) -> list[Packet]:
        """The packets of one side that have this flag."""
        return [one for one in self.packets if one.ours is by_us and one.flags & flag]

    @property
    def accepted(self) -> bool:
        """The host answered with SYN and ACK."""
        return any(one.flags & ACK for one in self.sent(SYN, by_us=False))

    @property
    def opened(self) -> bool:
        """We completed the handshake, by an acknowledgement without SYN or RST."""
        return self.accepted and any(one.flags & (SYN | RST | ACK) == ACK for one in self.packets if one.ours)

    @property
    def words(self) -> bytes:
        """What we said, put together; a piece that was sent twice counts once."""
        first = self.sent(SYN, by_us=True)[0].sequence + 1
        pieces = {(one.sequence - first) % 2**32: one.data for one in self.packets if one.ours and one.data}
        said = b""
        for at in sorted(pieces):
            assert at <= len(said), "a piece is missing"
            said = said[:at] + pieces[at]
        return said

    def is_acknowledged(self, fin: Packet) -> bool:
        """The other side has said that it knows of this end."""
        after = (fin.sequence + len(fin.data) + 1) % 2**32
        return any(one.acknowledged == after for one in self.packets if one.ours is not fin.ours and one.flags & ACK)

    @property
    def holds(self) -> tuple[float, float]:
        """From our first SYN until we had let go of it, or the host had refused."""
        over = [one.at for one in self.packets if (one.ours and one.flags & (FIN | RST)) or one.flags & RST]
        return self.packets[0].at, min(over, default=self.packets[-1].at)


def connections(packets: Iterable[Packet]) -> list[Connection]:
    """The connections that the scanner began, each SYN with a number of its own as one."""
    found: list[Connection] = []
    last: dict[tuple[str, int, int], Connection] = {}
    for one in packets:
        if one.protocol != TCP:
            continue
        local_port, port = one.ports if one.ours else one.ports[::-1]
        key = (one.peer, port, local_port)
        known = last.get(key)
        if one.ours and one.flags & (SYN | ACK) == SYN and (known is None or known.packets[0].sequence != one.sequence):
            known = last[key] = Connection(*key)
            found.append(known)
        assert known is not None, f"a segment without a beginning: {one}"
        known.packets.append(one)
    return found


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """How many of these stretches of time overlap at most."""
    steps = sorted(step for begin, end in spans for step in ((begin, 1), (end, -1)))
    now = most = 0
    for _, change in steps:
        now += change
        most = max(most, now)
    return most


def worst_excess(times: Iterable[float], rate: float) -> float:
    """By how many packets the fullest window of time exceeds what `rate` lets in: what a burst has to allow."""
    level, worst, before = 0.0, 0.0, None
    for at in sorted(times):
        if before is not None:
            level = max(0.0, level - (at - before) * rate)
        level, before = level + 1, at
        worst = max(worst, level)
    return worst

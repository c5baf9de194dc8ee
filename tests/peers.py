"""Peers on real sockets, a wire to look at, and a clock that skips what nobody uses.

Everything lives in one event loop: the peers, the routers that send ICMP errors, and what is tested.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, TypeVar

from exposure_scan.conversation import (
    Connect,
    Connected,
    Conversation,
    Event,
    Exchange,
    Heard,
    NotConnected,
    NotSecured,
    Observation,
    Receive,
    Reply,
    Request,
    Secured,
    Send,
    events_of,
    replay,
)
from exposure_scan.lab.network import add_address
from exposure_scan.model import Authorization, Evidence, Question, Target
from exposure_scan.protocols import conversation
from exposure_scan.transport import Gate, converse, read_flows, read_packets

T = TypeVar("T")
Make = Callable[[], Conversation]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
TOKEN = "00c0ffee00c0ffee"

HOST, HOST6 = "198.18.77.10", "2001:db8:77::10"  # ours: peers stand here
ROUTER, ROUTER6 = "198.18.77.1", "2001:db8:77::1"  # ours: ICMP errors come from here
SILENT = "198.51.100.222"  # nobody's; IPv6 has no such silence on a loopback device, see `deaf_port`


def own_addresses() -> None:
    """Give the loopback device the addresses above."""
    for address in (HOST, ROUTER, HOST6, ROUTER6):
        with suppress(FileExistsError):
            add_address(address)


# --- time and descriptors -------------------------------------------------------------------------


_MOMENT = 0.012  # seconds; what a peer in this loop does is seen within far less


class _Skips(selectors.DefaultSelector):
    """Waits a moment for real; if nothing comes, the rest of the wait is taken as passed."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= _MOMENT:
            return super().select(timeout)
        events = super().select(_MOMENT)
        if not events:
            self.skipped += timeout - _MOMENT
        return events


class _FastLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.skips = _Skips()
        super().__init__(self.skips)

    def time(self) -> float:
        return super().time() + self.skips.skipped


def descriptors() -> list[str]:
    """What /proc says is open: sockets only, since others come and go with imports."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(name for name in found if name.startswith("socket:"))


def run(main: Coroutine[Any, Any, T], *, real_time: bool = False) -> T:
    """Run to the end. No socket may be left behind, whatever happened."""
    before = descriptors()
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop if real_time else _FastLoop) as runner:
        result = runner.run(main)
    assert descriptors() == before
    return result


# --- asking ---------------------------------------------------------------------------------------


class Clock:
    """The time of day, set by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def target(
    address: str = HOST, *, by: str = "Synthetic Owner", hours: float | None = 1, rate: float = 1000, burst: int = 500
) -> Target:
    until = None if hours is None else NOON + timedelta(hours=hours)
    return Target(ip_address(address), (), Authorization(by=by, until=until), rate, burst)


def admitted(address: str = HOST) -> tuple[Gate, Target]:
    gate, whom = Gate(clock=Clock()), target(address)
    gate.admit(whom)
    return gate, whom


def words_of(reply: Reply) -> str:
    """A reply as a test reads it."""
    if isinstance(reply, Heard):
        return f"{reply.end} {reply.data!r}"
    if isinstance(reply, Connected):
        return f"connected {reply.local[0]} to {reply.peer[0]}|{reply.peer[1]}"
    if isinstance(reply, NotConnected):
        return f"not connected: {reply.reason}"
    if isinstance(reply, Secured):
        return f"secured {reply.version} {reply.certificate.hex()}"
    return f"not secured: {reply.reason}" if isinstance(reply, NotSecured) else "sent"


def script(*requests: Request) -> Make:
    """A conversation that asks for these things in turn, and reports every reply but those to a Send."""

    def talk() -> Generator[Request, Reply, Observation]:
        notes: list[str] = []
        answered = False
        local = ""
        for request in requests:
            reply = yield request
            if isinstance(reply, Connected):
                local += f"{reply.local} "  # for the comparison with the repeated one
            answered = answered or (isinstance(reply, Heard) and (reply.data != b"" or reply.end == "enough"))
            if not isinstance(request, Send):
                notes.append(words_of(reply))
        return Observation(notes=tuple(notes), answered=answered, banner=local)

    return talk


def probe(name: str) -> Make:
    from conversations import CALLER

    return lambda: conversation(name, TOKEN, CALLER)


CONNECT = Connect()


def line(seconds: float = 1.0, limit: int = 4096) -> Receive:
    return Receive(lambda data: data.endswith(b"\n"), seconds, limit)


def everything(seconds: float = 1.0, limit: int = 4096) -> Receive:
    return Receive(lambda data: False, seconds, limit)


def anything(seconds: float = 1.0, limit: int = 4096) -> Receive:
    return Receive(lambda data: True, seconds, limit)


async def ask(
    gate: Gate,
    whom: Target,
    transport: Literal["tcp", "udp", "icmp"],
    port: int,
    make: Make,
    *,
    deadline: float = 20.0,
) -> Exchange:
    """Ask, and hold the record to its promise: repeated offline, in its JSON form, it says the same."""
    exchange = await converse(gate, whom, Question(transport, port, "synthetic"), make(), deadline=deadline)
    if exchange.events:
        evidence = exchange.evidence("e1", str(whom), TOKEN)
        kept = events_of(Evidence.model_validate_json(evidence.model_dump_json()))
        assert replay(make(), kept, datagrams=transport != "tcp") == exchange.observation
    return exchange


# --- peers ----------------------------------------------------------------------------------------

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, host: str = HOST, **options: Any) -> AsyncIterator[int]:
    """A TCP server; yields its port. When the block ends, so do its connections."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, host, 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # connections are closed in the next turn of the loop


def tear_down(writer: asyncio.StreamWriter) -> None:
    """End the connection with a RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def wait_for_end(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(65536):
            pass


Reaction = Callable[[bytes], Sequence[bytes]]


class UdpPeer:
    """Answers each datagram as `react` says, and keeps what came with its time on the loop's clock."""

    def __init__(self, react: Reaction, host: str) -> None:
        self.got: list[tuple[float, bytes]] = []
        self.heard = asyncio.Event()
        self.sock = socket.socket(_family(host), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind((host, 0))
        self.port: int = self.sock.getsockname()[1]
        self.knows: Callable[[Any], None] = lambda sender: None  # told who asks
        self._react = react

    def read(self) -> None:
        data, sender = self.sock.recvfrom(65535)
        self.got.append((asyncio.get_running_loop().time(), data))
        self.heard.set()
        self.knows(sender)
        for answer in self._react(data):
            self.sock.sendto(answer, sender)


@asynccontextmanager
async def answering(react: Reaction = lambda data: (), host: str = HOST) -> AsyncIterator[UdpPeer]:
    """A UDP peer, silent if not told otherwise."""
    peer = UdpPeer(react, host)
    asyncio.get_running_loop().add_reader(peer.sock, peer.read)
    try:
        yield peer
    finally:
        asyncio.get_running_loop().remove_reader(peer.sock)
        peer.sock.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@contextmanager
def deaf_port(host: str) -> Iterator[int]:
    """A TCP port where the kernel drops every SYN: the queue of a listener that takes nobody is full."""
    with socket.socket(_family(host)) as listener, socket.socket(_family(host)) as only:
        listener.bind((host, 0))
        listener.listen(0)
        only.connect(listener.getsockname())
        yield listener.getsockname()[1]


def closed_port(kind: int, host: str = HOST) -> int:
    """A port that nobody serves at the moment."""
    with socket.socket(_family(host), kind) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


# --- the wire -------------------------------------------------------------------------------------


class Wire:
    """IP packets that pass the loopback device, each once."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.react: Callable[[bytes], None] = lambda packet: None
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(3))

    def read(self) -> None:
        while True:
            try:
                packet, (_, _, direction, _, _) = self._sock.recvfrom(65575)
            except BlockingIOError:
                return
            if direction != 4:  # PACKET_OUTGOING: the same packet on its way out
                self.packets.append(packet)
                self.react(packet)

    def to(self, address: str) -> list[bytes]:
        """The packets to this address."""
        self.read()
        return [packet for packet in self.packets if destination(packet) == address]

    def open(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()


def destination(packet: bytes) -> str:
    return str(ip_address(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]))


@asynccontextmanager
async def wire() -> AsyncIterator[Wire]:
    loop = asyncio.get_running_loop()
    seen = Wire()
    loop.add_reader(seen.open(), seen.read)
    try:
        yield seen
    finally:
        loop.remove_reader(seen.open())
        seen.close()


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes; written here anew so that no code of the product judges itself."""
    total = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send_error(sender: str, receiver: str, kind: int, code: int, quoted: bytes) -> None:
    """Send an ICMP error that quotes a packet."""
    quoted = quoted[: len(quoted) // 2 * 2][:128]
    head = struct.pack("!BBHI", kind, code, 0, 0)
    if ":" in sender:  # the kernel fills in the checksum
        family, protocol = socket.AF_INET6, socket.IPPROTO_ICMPV6
    else:
        family, protocol = socket.AF_INET, socket.IPPROTO_ICMP
        head = struct.pack("!BBHI", kind, code, checksum(head + quoted), 0)
    with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
        sock.bind((sender, 0))
        sock.sendto(head + quoted, (receiver, 0))


@asynccontextmanager
async def router(kind: int, code: int, *, about: str, says: str) -> AsyncIterator[Wire]:
    """Something at `says` that answers every packet to `about` with this ICMP error."""

    def refuse(packet: bytes) -> None:
        if destination(packet) == about:
            source = packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]
            send_error(says, str(ip_address(source)), kind, code, packet)

    async with wire() as seen:
        seen.react = refuse
        yield seen


# --- captures -------------------------------------------------------------------------------------


def read_events(file: Path, *, kind: str, local: tuple[str, int], peer: tuple[str, int]) -> list[Event]:
    """The events of one flow of a capture; ports do not matter to icmp."""
    with file.open("rb") as opened:
        flows = read_flows(read_packets(opened, str(file)), {ip_address(peer[0])})
    ends = (local, peer)
    mine = [flow for flow in flows if flow.transport == kind and (kind == "icmp" or (flow.local, flow.peer) == ends)]
    return [event for flow in mine for event in flow.events]

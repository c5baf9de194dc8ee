"""The first look at many ports of many hosts at once, with a handful of sockets.

SYNs are made here and go out over a raw socket; their answers are seen on the gate's wire, and the kernel
tears down what nobody opened. Datagram conversations share one UDP socket. What accepts a connection, what is
answered from elsewhere, and SYNs where the privilege is missing, are left to the ordinary sockets.

A host still gets its packets at its own pace, in turns with all others.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from exposure_scan.model import Problem, Question, Target

from . import segments
from .datagrams import PENDING
from .gate import Gate
from .icmp import IcmpError, read_addressed_errors
from .journal import DEADLINE, Journal, endpoint
from .packets import TCP, UDP, Packet
from .syns import PORTS, Asked, Done, Make, Syns
from .talk import Talk
from .wire import Wire, dropped, wired

log = logging.getLogger("exposure_scan")

_SLICE = 256  # packets sent, and datagrams read, before others get their turn
_AT_A_TURN = 5  # packets to one host before the others get their turn
_MOST_PENDING = 16  # errors that may come while one datagram is sent, before it is sent a moment later
_LONGEST_WAIT = 0.25  # seconds until the consent is looked at again
_REST = 0.05  # seconds that a host rests at least when its pace has no place: fewer turns, and some packets at each
_STRAYS = 3  # answers from addresses that nobody asked, after which datagrams go by sockets of their own
_LARGEST = 65535

_Flow: TypeAlias = tuple[bytes, int]  # the host's packed address and its port


class _Shared:
    """What the talks of one host need of the socket that all share."""

    def __init__(self, engine: Engine, asked: Asked, sock: socket.socket) -> None:
        self.local_port = endpoint(sock.getsockname())[1]
        self._engine, self._asked, self._sock = engine, asked, sock
        self._host = str(asked.target)

    def queue(self, send: Callable[[], None]) -> None:
        """Call `send` when the host's pace has a place."""
        self._engine.queue(self._asked, send)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call back after so long, or a little later."""
        self._engine.later(seconds, call)

    def emit(self, data: bytes, port: int, ancillary: list[tuple[int, int, bytes]]) -> None:
        """Send a datagram to the host.

        Raises:
            OSError: it did not go out.
        """
        alone = 0
        for _ in range(_MOST_PENDING):
            try:
                self._sock.sendmsg([data], ancillary, 0, (self._host, port))
            except OSError as error:
                # Mostly it is about an earlier one, to whomever: the kernel tells it here, and this one did not go yet.
                alone += not self._engine.read_errors(self._sock)
                if error.errno not in PENDING or alone > 1:
                    raise
            else:
                return
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


class _SynSockets(NamedTuple):
    """The one that sends, the ones that keep its ports, and those ports."""

    all: tuple[socket.socket, ...]
    ports: tuple[int, ...]


class Engine:
    """Asks the questions of many hosts over shared sockets. Made by `engine`."""

    def __init__(self, gate: Gate, wire: Wire | None) -> None:
        self.gate = gate
        self._wire = wire
        self._syns: dict[_Flow, Syns] = {}
        self._talks: dict[_Flow, Talk] = {}
        self._hosts: dict[bytes, list[Asked]] = {}
        self._before: set[bytes] = set()  # hosts that were asked: their late answers are no strangers'
        self._ready: deque[Asked] = deque()
        self._pumping = False
        self._soon: dict[float, list[Callable[[], None]]] | None = None  # while packets go out: calls by their seconds
        self._strays = 0
        self._udp: dict[int, socket.socket | None] = {}
        self._raw: dict[int, _SynSockets | None] = {}
        self._drops: int | None = None  # as counted a moment ago
        self._users = 0
        self._loop = asyncio.get_running_loop()
        if wire is not None:
            wire.tcp, wire.icmp = self._segment, self._icmp

    def close(self) -> None:
        """Give up the sockets."""
        if self._wire is not None:
            self._wire.tcp = self._wire.icmp = None
        for sock in self._udp.values():
            if sock is not None:
                self._loop.remove_reader(sock.fileno())
                sock.close()
        for syns in self._raw.values():
            for sock in syns.all if syns else ():
                sock.close()

    # --- asking ----------------------------------------------------------------------------------

    async def ask(self, target: Target, questions: Sequence[Question], make: Make, told: Done) -> None:
        """Ask all of them, and tell of each as it is settled.

        A TCP port that accepts is told as such, and what it is has to be asked by an ordinary socket. None is told
        where a question cannot be asked here.

        Args:
            target: whom to ask.
            questions: UDP and TCP ports.
            make: the conversation of the question with that number, a fresh one at each call.
            told: called with the number of a question, and what came of it.

        Raises:
            NotAuthorized: the consent is missing, or ended meanwhile.
        """
        if not questions:
            return
        before, carrier = self._dropped(), self.gate.carriers.towards(target.address)
        source = None
        if carrier is None or carrier.there:
            with suppress(OSError):
                source = self.gate.source(target.address)
        if source is None:  # no way there just now: the ordinary sockets tell of it, port by port
            for number in range(len(questions)):
                told(number, None)
            return

        def deaf() -> bool:
            return self._dropped() != before or not self.gate.carriers.held(carrier)

        syns, over = segments.SynTemplate(ip_address(source).packed, target.address.packed), self._loop.create_future()
        asked = Asked(target, source, syns, make, told, deaf, len(questions), over)
        self._hosts.setdefault(target.address.packed, []).append(asked)
        flows: list[tuple[dict[_Flow, Syns] | dict[_Flow, Talk], _Flow]] = []
        try:
            async with self.gate.consented(target):
                async with self.gate.alone():
                    line = self._line(asked)
                    for number, question in enumerate(questions):
                        begun = self._begin(asked, line, number, question)
                        if begun is None:
                            asked.done(number, None)
                        else:
                            flows.append(begun)
                await asked.over
        finally:
            for table, flow in flows:
                table.pop(flow, None)
            for one in asked.open.values():
                if isinstance(one, Talk):
                    one.cancel()
            asked.open.clear()
            asked.queue.clear()
            self._hosts[target.address.packed].remove(asked)
            if not self._hosts[target.address.packed]:
                del self._hosts[target.address.packed]
                self._before.add(target.address.packed)

    def _begin(
        self, asked: Asked, line: _Shared | None, number: int, question: Question
    ) -> tuple[dict[_Flow, Syns] | dict[_Flow, Talk], _Flow] | None:
        address = asked.target.address
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        flow = (address.packed, question.port)
        if (
            question.transport == "tcp"
            and flow not in self._syns
            and (sockets := self._syn_sockets(family)) is not None
        ):
            for local_port in sockets.ports:
                self.gate.remember(TCP, local_port, asked.target, question.port)
            syns = self._syns[flow] = asked.open[number] = Syns(self, asked, number, question, sockets.ports)
            self.queue(asked, syns.send)
            return self._syns, flow
        if question.transport == "udp" and flow not in self._talks and line is not None:
            self.gate.remember(UDP, line.local_port, asked.target, question.port)
            journal = Journal(self.gate, asked.target, DEADLINE)
            talk = Talk(
                line,
                journal,
                (asked.source, asked.target),
                question,
                asked.make(number),
                lambda exchange: asked.done(number, exchange),
            )
            self._talks[flow] = asked.open[number] = talk
            talk.start()
            return self._talks, flow
        return None

    def _line(self, asked: Asked) -> _Shared | None:
        """What the host's datagram conversations share; None where they need sockets of their own."""
        sock = self._udp_socket(socket.AF_INET if asked.target.address.version == 4 else socket.AF_INET6)
        return None if sock is None else _Shared(self, asked, sock)

    def _udp_socket(self, family: int) -> socket.socket | None:
        if self._strays >= _STRAYS:
            return None
        if family not in self._udp:
            self._udp[family] = None
            with suppress(OSError):
                sock = self._udp[family] = self.gate.shared_udp(family)
                self._loop.add_reader(sock.fileno(), self._read, sock)
        return self._udp[family]

    def _dropped(self) -> int:
        """How many packets the kernel has dropped so far because a shared socket was full."""
        if self._drops is not None:
            return self._drops
        sockets = [sock for sock in self._udp.values() if sock is not None]
        return sum(map(dropped, sockets)) + (self._wire.dropped if self._wire is not None else 0)

    def _syn_sockets(self, family: int) -> _SynSockets | None:
        if self._wire is None:
            return None
        if family not in self._raw:
            self._raw[family] = None
            if (opened := self.gate.raw_syns(family, PORTS)) is not None:
                ports = tuple(endpoint(sock.getsockname())[1] for sock in opened[1:])
                self._wire.tcp_ports |= {port.to_bytes(2, "big") for port in ports}
                self._raw[family] = _SynSockets(opened, ports)
        return self._raw[family]

    # --- sending ---------------------------------------------------------------------------------

    def queue(self, asked: Asked, send: Callable[[], None]) -> None:
        """Call `send` when the host's pace, and everybody's, has a place."""
        asked.queue.append(send)
        if not asked.waiting:
            self._want(asked)

    def _want(self, asked: Asked) -> None:
        asked.waiting = True
        self._ready.append(asked)
        self._wake()

    def _wake(self, seconds: float = 0.0) -> None:
        if not self._pumping:
            self._pumping = True
            if seconds:
                self._loop.call_later(seconds, self._pump)
            else:
                self._loop.call_soon(self._pump)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call back after so long, or a little later: packets that go out together share their timers."""
        if self._soon is None:
            self._loop.call_later(seconds, call)
        else:
            self._soon.setdefault(seconds, []).append(call)

    def _pump(self) -> None:
        """Send what may go now."""
        self._pumping = False
        self._soon = {}
        try:
            self._send()
        finally:
            soon, self._soon = self._soon, None
            for seconds, calls in soon.items():
                self._loop.call_later(seconds, self._call, calls)

    def _call(self, calls: list[Callable[[], None]]) -> None:
        self._drops = self._dropped()  # nothing is heard until they are through
        for call in calls:
            try:
                call()
            except Exception:  # a fault of ours at one question is none of the others'
                log.exception("a fault in exposure-scan")
        self._drops = None

    def _send(self) -> None:
        """A few packets for each host in turn."""
        now = self._loop.time()
        for _ in range(_SLICE // _AT_A_TURN):
            if not self._ready:
                return
            asked = self._ready.popleft()
            if not asked.queue or asked.over.done():
                asked.waiting = False
                continue
            try:
                turn = self.gate.turn(asked.target, now, min(len(asked.queue), _AT_A_TURN))
            except Problem as error:
                asked.waiting = False
                asked.fail(error)
                continue
            if turn.everybody:
                self._ready.appendleft(asked)
                self._wake(min(turn.wait, _LONGEST_WAIT))
                return
            if not turn.packets:
                self._loop.call_later(min(max(turn.wait, _REST), _LONGEST_WAIT), self._want, asked)
                continue
            for _ in range(turn.packets):
                asked.queue.popleft()()
            self._ready.append(asked)
        self._wake()

    def emit_syn(self, packet: bytes, target: Target) -> None:
        """Send a packet with its IP header.

        Raises:
            OSError: it did not go out.
        """
        family = socket.AF_INET if target.address.version == 4 else socket.AF_INET6
        sockets = self._raw[family]
        assert sockets is not None
        sockets.all[0].sendto(packet, (str(target), 0))

    # --- hearing ---------------------------------------------------------------------------------

    def _segment(self, raw: bytes) -> None:
        reply = segments.read(raw)
        syns = self._syns.get((reply.host, reply.port)) if reply is not None else None
        if reply is not None and syns is not None and reply.acknowledged == (syns.sequence + 1) % 2**32:
            syns.heard(reply)

    def _icmp(self, packet: Packet, quoted: Packet) -> None:
        """Believe an error that quotes the sequence number: who was asked elsewhere knows our ports (RFC 5927, 4.1)."""
        ours = self._wire.tcp_ports if self._wire else ()
        if quoted.protocol == TCP and len(quoted.body) >= 8 and quoted.body[:2] in ours:
            syns = self._syns.get((quoted.destination.packed, int.from_bytes(quoted.body[2:4], "big")))
            if syns is not None and int.from_bytes(quoted.body[4:8], "big") == syns.sequence:
                syns.refused(IcmpError(packet.body[0], packet.body[1], packet.source))

    def _read(self, sock: socket.socket) -> None:
        for _ in range(_SLICE):
            try:
                data, source = sock.recvfrom(_LARGEST)
            except BlockingIOError:
                break
            except OSError:
                self.read_errors(sock)  # the kernel tells first that there are some
                continue
            host, port = endpoint(source)
            packed = _packed(host)
            talk = self._talks.get((packed, port))
            if talk is not None:
                talk.heard(data)
            else:
                self._elsewhere(packed)
        self.read_errors(sock)

    def read_errors(self, sock: socket.socket) -> bool:
        """Tell the talks of the ICMP errors about their datagrams; whether there were any."""
        told = read_addressed_errors(sock)
        for error, (host, port), quoted in told:
            talk = self._talks.get((_packed(host), port))
            if talk is not None:
                talk.refused(error, quoted)
        return bool(told)

    def _elsewhere(self, packed: bytes) -> None:
        """Somebody answered whom nobody asked: sockets of their own can tell what was answered."""
        if packed not in self._hosts:
            if packed in self._before:
                return
            self._strays += 1
        for asked in self._hosts.get(packed) or [one for several in self._hosts.values() for one in several]:
            for one in list(asked.open.values()):
                if isinstance(one, Talk) and one.tries:
                    one.unheard()


@lru_cache(maxsize=4096)
def _packed(host: str) -> bytes:
    return ip_address(host).packed


_ENGINES: WeakKeyDictionary[Gate, Engine] = WeakKeyDictionary()


@asynccontextmanager
async def engine(gate: Gate) -> AsyncIterator[Engine]:
    """The gate's engine while the block runs, the same for all who want it."""
    async with wired(gate) as wire:
        made = _ENGINES.get(gate)
        if made is None:
            made = _ENGINES[gate] = Engine(gate, wire)
        made._users += 1
        try:
            yield made
        finally:
            made._users -= 1
            if not made._users:
                del _ENGINES[gate]
                made.close()

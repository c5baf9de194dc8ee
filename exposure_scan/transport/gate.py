"""The one gate: every socket that reaches the network is opened here, and nowhere else.

Consent is checked where packets start, not where a scan is ordered: an address that was not
admitted, or whose authorization has ended meanwhile, gets no packet. The gate also keeps the pace,
so that a scan never becomes a flood, and the number of sockets, so that a sweep never starves.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from weakref import WeakSet, WeakValueDictionary

from exposure_scan.model import Address, Target

from .carrier import Carriers
from .consent import WATCH, NotAuthorized, Onward, Watch, ended_sentence, since_boot, wall
from .icmp import listen_for_errors, only_echo_replies
from .limits import allowed_sockets
from .pace import Bucket, Lag, RoundTrips, Turn, owe_if_waiting, repeated_syns

PACKET = 1460  # bytes of payload that one packet carries over Ethernet
_ETH_P_ALL = 0x0003
_REPEATED = 1000  # milliseconds for which the kernel repeats the end of a connection that nobody confirms
_FLOW = struct.Struct("!BHH")  # protocol, our port, theirs: the ports as a header has them
_AT_ONCE = struct.pack("ii", 1, 0)  # of SO_LINGER: a RST, and nothing is kept to be repeated


@dataclass(slots=True)
class _Host:
    """An admitted address.

    Conversations that have begun queue for `turn`; new ones first for `new`, so that however many are
    waiting to begin, only one of them stands before those under way.
    """

    target: Target
    bucket: Bucket
    new: asyncio.Lock = field(default_factory=asyncio.Lock)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    trips: RoundTrips = field(default_factory=RoundTrips)
    sockets: WeakSet[_Socket] = field(default_factory=lambda: WeakSet())


class _Socket(socket.socket):
    """A socket that gives its places back when it is closed."""

    held: ExitStack | None = None
    peer: tuple[str, int] | None = None  # where `send` goes to from a UDP socket; it hears everybody
    torn = False

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        self._whole()
        return super().send(data, flags) if self.peer is None else super().sendto(data, flags, self.peer)

    def shutdown(self, how: int) -> None:
        self._whole()
        super().shutdown(how)

    def _whole(self) -> None:
        if self.torn:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def tear(self) -> None:
        """Let no further word out: what is left is to close it, which leaves the kernel nothing to repeat."""
        self.torn = True
        self._set(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

    def _set(self, level: int, name: int, value: int | bytes) -> None:
        if self.type == socket.SOCK_STREAM:
            with suppress(OSError):  # it is closed already
                self.setsockopt(level, name, value)

    def close(self) -> None:
        if self.fileno() >= 0:
            self._set(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _REPEATED)
        super().close()
        if self.held is not None:
            self.held.close()


class Gate:
    """Opens sockets to admitted addresses while their authorization lasts, at their pace.

    Args:
        clock: the time of day, aware. Consent is judged by it, but for what was set back (see `Onward`).
        steady: seconds that nobody can set.
        sockets: how many may be open at once; by default what the process may open, at most 1,024.
        connections_per_service: how many at once to one port of one address.
        packets_per_second: to all addresses together, beside the pace of each; None sets no such limit.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = wall,
        steady: Callable[[], float] = since_boot,
        sockets: int | None = None,
        connections_per_service: int = 3,
        packets_per_second: float | None = None,
    ) -> None:
        self.now = clock
        self.onward = Onward(clock, steady)
        self._watch = Watch(self.onward)
        self.stopped = False
        self._total = None if packets_per_second is None else Bucket(packets_per_second, packets_per_second / 20)
        self._alone: WeakValueDictionary[Address, asyncio.Lock] = WeakValueDictionary()
        self._places = asyncio.Semaphore(sockets or allowed_sockets())
        self._per_service = connections_per_service
        self._services: WeakValueDictionary[tuple[Address, int], asyncio.Semaphore] = WeakValueDictionary()
        self._hosts: dict[str, _Host] = {}  # by address
        self._flows: dict[bytes, set[bytes]] = {}  # by packed address: protocol, our port, theirs
        self._repetitions = repeated_syns()
        self.lag = Lag()
        self.carriers = Carriers(lambda: _Socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0))
        self._heavy = asyncio.Lock()

    # --- consent ---------------------------------------------------------------------------------

    def admit(self, target: Target) -> None:
        """Register an address. Admitting it anew replaces its authorization and keeps its pace.

        Raises:
            NotAuthorized: nobody is named who consented, the consent has ended, or the address is
                none of a single host.
        """
        address = target.address
        if address.is_multicast or address.is_unspecified:
            raise NotAuthorized(f"{address} is not the address of one host; give the customer's public address.")
        if not target.authorization.by.strip():
            raise NotAuthorized(f"Nobody is named who authorized the scan of {address}; record who consented.")
        if self.onward.ended(target):
            raise NotAuthorized(ended_sentence(target))
        known = self._hosts.get(str(target))
        if known is None:
            self._hosts[str(target)] = _Host(target, Bucket(target.packets_per_second, target.burst))
        else:
            known.target = target

    @asynccontextmanager
    async def admitted(self, targets: Iterable[Target]) -> AsyncIterator[None]:
        """Have these addresses admitted while the block runs, by nobody else at the same time.

        Whoever wants one of them meanwhile waits until it is free: an address is scanned once at a time, under
        one authorization.

        Raises:
            NotAuthorized: see `admit`.
        """
        mine = sorted({target.address: target for target in targets}.values(), key=lambda one: one.address.packed)
        locks = [self._alone.setdefault(target.address, asyncio.Lock()) for target in mine]
        async with AsyncExitStack() as held:
            for lock in locks:  # always in this order, so that two sites cannot wait for each other
                await held.enter_async_context(lock)
            for target in mine:
                self.admit(target)
            try:
                yield
            finally:
                for target in mine:
                    del self._hosts[str(target)]
                    self._flows.pop(target.address.packed, None)

    def stop(self) -> None:
        """Let no further packet out to anybody, and tear down what is open; there is no way back."""
        self.stopped = True
        for host in self._hosts.values():
            _tear(host)

    def _live(self, target: Target) -> _Host:
        if self.stopped:
            raise NotAuthorized("The scan was stopped; nothing more is sent.")
        host = self._hosts.get(str(target))
        if host is None:
            raise NotAuthorized(f"{target.address} is not among the addresses admitted to this scan.")
        if self.onward.ended(host.target):
            raise NotAuthorized(ended_sentence(host.target))
        return host

    @asynccontextmanager
    async def consented(self, target: Target) -> AsyncIterator[None]:
        """Ends what runs inside within a second after the consent has ended.

        Without it the kernel would go on repeating a SYN that it was given before.

        Raises:
            NotAuthorized: the consent is missing, or ended while the block ran.
        """
        host = self._live(target)
        async with self._watch.over(lambda: host.target, lambda: _tear(host)):
            yield

    # --- pace ------------------------------------------------------------------------------------

    async def pace(self, target: Target, size: int = 1) -> None:
        """Wait until the next `size` bytes of a conversation under way may go.

        Raises:
            NotAuthorized: the packet may not be sent.
        """
        host = self._live(target)
        await self._take_turn(host, max(1, -(-size // PACKET)))

    async def _take_turn(self, host: _Host, packets: int) -> None:
        async with host.turn:
            while True:
                self._live(host.target)
                wait = host.bucket.take(asyncio.get_running_loop().time(), packets * self.lag.slowdown)
                if wait <= 0:
                    break
                await asyncio.sleep(min(wait, WATCH))
            while self._total is not None:
                self._live(host.target)
                wait = self._total.take(asyncio.get_running_loop().time(), packets)
                if wait <= 0:
                    break
                await asyncio.sleep(min(wait, WATCH))

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Some milliseconds of work, done by one at a time with a look at the network in between.

        A thousand sites that begin, or end, in the same moment would else make us deaf for seconds.
        """
        async with self._heavy:
            await asyncio.sleep(0)
            yield

    def turn(self, target: Target, now: float, most: int = 1) -> Turn:
        """Take the places of some packets, at most so many, that leave now.

        For many packets at once, where nobody waits for a single one.

        Raises:
            NotAuthorized: no packet may be sent.
        """
        host = self._live(target)
        if self._total is not None:
            most, wait = self._total.take_some(now, 1, most)
            if not most:
                return Turn(0, wait, True)
        packets, wait = host.bucket.take_some(now, self.lag.slowdown, most)
        if self._total is not None:
            self._total.owe(packets - most)
        return Turn(packets, wait, False)

    # --- round trips -----------------------------------------------------------------------------

    def note_rtt(self, target: Target, seconds: float) -> None:
        """A packet to the target was answered after so long."""
        self._hosts[str(target)].trips.note(seconds)

    def patience(self, target: Target, seconds: float) -> float:
        """How long to wait for an answer that comes at once if it comes: `seconds`, or less on a path that is known."""
        return self._hosts[str(target)].trips.patience(seconds)

    # --- sockets ---------------------------------------------------------------------------------

    async def tcp(self, target: Target, port: int, *, begun: bool = False) -> socket.socket:
        """A non-blocking socket whose connect has just begun; ICMP errors are queued on it.

        Args:
            target: where to.
            port: its port.
            begun: whether the conversation has sent before (it then goes before new ones).

        Raises:
            NotAuthorized: no packet may go there.
            OSError: this machine could not do it; nothing is known of the port.
        """
        host = self._live(target)
        with ExitStack() as held:
            await self._hold(held, self._service(target.address, port))
            with ExitStack() as queue:
                if not begun:
                    await host.new.acquire()
                    queue.callback(host.new.release)
                await self._hold(held, self._places)
                await self._take_turn(host, 1)
            sock = self._open(held, _family(target.address), socket.SOCK_STREAM)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
            code = sock.connect_ex((str(target.address), port))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            self.remember(_PROTOCOLS[sock.type], sock.getsockname()[1], target, port)
            sock.held = held.pop_all()
            host.sockets.add(sock)
            for after in self._repetitions:  # the kernel's own packets count, too
                asyncio.get_running_loop().call_later(after, owe_if_waiting, sock, host.bucket)
            return sock

    async def udp(self, target: Target, port: int, ttl: int | None = None) -> socket.socket:
        """A non-blocking socket that sends to the port alone. Nothing is sent: `pace` stands before each send.

        Its packets live for `ttl` hops. It is not connected, so that an answer from another port or
        address is heard: the caller has to look at the source.

        Raises:
            NotAuthorized: no packet may go there.
            OSError: this machine could not do it.
        """
        host = self._live(target)
        with ExitStack() as held:
            await self._hold(held, self._service(target.address, -port))  # UDP counts apart from TCP
            await self._hold(held, self._places)
            self._live(target)
            sock = self._open(held, _family(target.address), socket.SOCK_DGRAM)
            if ttl is not None and sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            elif ttl is not None:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
            sock.bind((self.source(target.address), 0))
            sock.peer = (str(target.address), port)
            self.remember(_PROTOCOLS[sock.type], sock.getsockname()[1], target, port)
            sock.held = held.pop_all()
            host.sockets.add(sock)
            return sock

    async def icmp(self, target: Target) -> socket.socket | None:
        """A socket for echo: raw where we may, else the kernel's ping socket, else None.

        Raises:
            NotAuthorized: no packet may go there.
            OSError: this machine could not do it, for want of something else than permission.
        """
        host = self._live(target)
        family = _family(target.address)
        protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
        for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
            with ExitStack() as held:
                await self._hold(held, self._places)
                self._live(target)
                try:
                    sock = self._open(held, family, kind, protocol)
                except OSError as error:
                    if error.errno in _NOT_FOR_US:
                        continue
                    raise
                if kind == socket.SOCK_RAW:
                    only_echo_replies(sock)
                sock.connect((str(target.address), 0))
                sock.held = held.pop_all()
                host.sockets.add(sock)
                return sock
        return None

    def shared_udp(self, family: int) -> socket.socket:
        """A non-blocking UDP socket for many hosts; ICMP errors are queued on it. `turn` stands before each send.

        Raises:
            OSError: this machine could not do it.
        """
        with ExitStack() as held:
            sock = self._open(held, family, socket.SOCK_DGRAM)
            sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))  # noqa: S104 - it hears answers only
            held.pop_all()
            return sock

    def raw_syns(self, family: int, ports: int) -> tuple[socket.socket, ...] | None:
        """A socket that sends packets with their IP header, and some that keep a TCP port; None where it may not.

        Nobody listens at those ports, so the kernel tears down what answers there.
        """
        with ExitStack() as held:
            try:
                found = [_Socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)]
                held.callback(found[0].close)
                for _ in range(ports):
                    found.append(_Socket(family, socket.SOCK_STREAM))
                    held.callback(found[-1].close)
                    if family == socket.AF_INET6:
                        found[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    found[-1].bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))  # noqa: S104 - hears nothing
            except OSError:  # no right, or no descriptor: the ordinary sockets wait for theirs
                return None
            held.pop_all()
        return tuple(found)

    def remember(self, protocol: int, local_port: int, target: Target, port: int) -> None:
        """Packets between these ports are ours (6 is TCP, 17 is UDP)."""
        self._flows.setdefault(target.address.packed, set()).add(_FLOW.pack(protocol, local_port, port))

    def packet_capture(self) -> socket.socket | None:
        """A socket that sees every packet of this machine from the IP header on; None without the right.

        It only listens.
        """
        try:
            sock = _Socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
        except OSError:  # no right, or no descriptor: the scan goes on without
            return None
        return sock

    def is_ours(self, protocol: bytes, ports: bytes, address: bytes) -> bool:
        """Whether this gate asks the packed address.

        Args:
            protocol: one byte (6 is TCP, 17 is UDP).
            ports: ours and that of the address, two bytes each, as a header has them.
            address: packed.
        """
        return protocol + ports in self._flows.get(address, ())

    def _service(self, address: Address, port: int) -> asyncio.Semaphore:
        found = self._services.get((address, port))
        if found is None:
            self._services[address, port] = found = asyncio.Semaphore(self._per_service)
        return found

    async def _hold(self, held: ExitStack, places: asyncio.Semaphore) -> None:
        await places.acquire()
        held.callback(places.release)

    def _open(self, held: ExitStack, family: int, kind: int, protocol: int = 0) -> _Socket:
        sock = _Socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        held.callback(socket.socket.close, sock)  # closed twice does no harm, left open would
        if family == socket.AF_INET6 and kind != socket.SOCK_RAW:  # a raw one never speaks IPv4
            # An IPv4 address in IPv6 dress is another address than the one that was admitted.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listen_for_errors(sock)
        return sock

    def source(self, address: Address) -> str:
        """The address that this machine speaks from to that one. A connected UDP socket tells; it sends nothing."""
        with socket.socket(_family(address), socket.SOCK_DGRAM) as asked:
            asked.connect((str(address), 9))
            return str(asked.getsockname()[0])


_NOT_FOR_US = frozenset({errno.EPERM, errno.EACCES, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT})
_PROTOCOLS = {socket.SOCK_STREAM: 6, socket.SOCK_DGRAM: 17}


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _tear(host: _Host) -> None:
    for sock in list(host.sockets):
        sock.tear()
